"""Sizes by a word: the width at which a network has about as many parameters as the word says."""

from __future__ import annotations

import math
from typing import Any

import torch

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Options, Plan
from hounsfield.core.registry import nearest
from hounsfield.plan.network import network

# Millions of parameters.
WORDS = {"tiny": 1, "small": 5, "base": 25, "large": 90, "huge": 300, "giant": 1000}
STEP = 8  # channels: groups of normalisation and the blocks of fast kernels divide by it
WIDEST = 2**16  # channels, where the search gives up; no device holds such a network
REACH = 10  # widths that the coarsest level of a network may take, where it has a largest one


def parameters(plan: Plan) -> int:
    """How many numbers one network of the plan learns; it is built without memory."""
    return _count(plan, plan.model_options)


def sized(plan: Plan, word: str) -> Plan:
    """The plan with the width, a multiple of its `step`, whose number of parameters is nearest to what `word` says.

    Raises InputError BAD_OPTION for a word that is none of WORDS, UNSUPPORTED_PAIR for a model that has no width.
    """
    if word not in WORDS:
        raise InputError(
            "BAD_OPTION", "--size", found=repr(word), expected=f"one of {', '.join(WORDS)}", fix=nearest(word, WORDS)
        )
    if not hasattr(plan.model_options, "width"):
        raise InputError(
            "UNSUPPORTED_PAIR",
            f"--size {word}",
            found=f"model {plan.network}, which has one size",
            expected="a model with a width",
            fix="leave out --size, or choose another model with --model",
        )
    target = WORDS[word] * 1_000_000
    unit = step(plan.model_options)
    high = 2  # in steps of channels; the count grows with the width
    while high * unit < WIDEST and _count(plan, _wide(plan.model_options, high * unit)) <= target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if _count(plan, _wide(plan.model_options, middle * unit)) <= target:
            low = middle
        else:
            high = middle
    counts = {width: _count(plan, _wide(plan.model_options, width)) for width in (low * unit, high * unit)}
    width = min(counts, key=lambda w: abs(counts[w] - target))
    why = f"--size {word}: {counts[width] / 1e6:.1f} million parameters (about {WORDS[word]})"
    reasons = {**plan.reasons, "model_options.width": why}
    if hasattr(plan.model_options, "max_width"):
        reasons["model_options.max_width"] = f"--size {word}: {REACH} times the width"
    return plan.model_copy(update={"model_options": _wide(plan.model_options, width), "reasons": reasons})


def step(options: Options) -> int:
    """Channels by which the width goes up: a multiple of STEP, and of what the model's own options ask of it."""
    asked = (getattr(rule, "multiple_of", 1) for rule in type(options).model_fields["width"].metadata)
    return math.lcm(STEP, *asked)


def _wide(options: Options, width: int) -> Options:
    """The options with another width, and room for it to double down to the coarsest level."""
    changes: dict[str, Any] = {"width": width}
    if hasattr(options, "max_width"):
        changes["max_width"] = REACH * width
    return type(options).parse({**options.model_dump(), **changes}, "--size")


def _count(plan: Plan, options: Options) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in network(plan.model_copy(update={"model_options": options})).parameters())
