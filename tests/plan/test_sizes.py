"""Sizes by a word: parameter counts of real networks, in order, without memory."""

from __future__ import annotations

import time

import pytest
import torch
from tests.plan.test_rules import facts, plan

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts
from hounsfield.models import MODELS
from hounsfield.plan.budget import sizes
from hounsfield.plan.sizes import WORDS, parameters, sized, step
from hounsfield.tasks import TASKS


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_count_is_that_of_the_real_network(task: str) -> None:
    made = sized(plan(facts(), task), "tiny")
    outputs = TASKS.load(task).Solver(made).out_channels
    network = MODELS.load(made.model).build(made.model_options, len(made.channels), outputs, made.ndim)
    assert parameters(made) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_every_word_is_near_its_number_and_larger_than_the_word_before(task: str) -> None:
    first = plan(facts(), task)
    start = time.monotonic()
    counts = {word: parameters(sized(first, word)) for word in WORDS}
    assert time.monotonic() - start < 30
    assert list(counts.values()) == sorted(set(counts.values()))
    for word in ("base", "large", "huge", "giant"):
        assert counts[word] == pytest.approx(WORDS[word] * 1e6, rel=0.25)


def test_the_width_is_a_multiple_of_eight_and_the_nearest() -> None:
    first = plan(facts())
    made = sized(first, "base")
    width = made.model_options.model_dump()["width"]
    assert width % 8 == 0
    assert made.model_options.model_dump()["max_width"] == 10 * width
    away = abs(parameters(made) - 25e6)
    for other in (width - 8, width + 8):
        beside = made.override({"model_options.width": other, "model_options.max_width": 10 * other}, "")
        assert abs(parameters(beside) - 25e6) >= away


def test_the_reason_names_word_and_count_and_keeps_the_budget_from_choosing() -> None:
    made = sized(plan(facts()), "base")
    count = parameters(made) / 1e6
    assert made.reasons["model_options.width"] == f"--size base: {count:.1f} million parameters (about 25)"
    assert sizes(made) == [made]


def test_an_unknown_word_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"BAD_OPTION --size: found 'hugee', expected one of tiny, .*did you mean 'huge'"):
        sized(plan(facts()), "hugee")


def test_a_model_of_one_size_is_refused() -> None:
    flat = facts(
        ndim=2, shape_min=(28, 28), shape_median=(28, 28), shape_max=(28, 28), spacing_min=(1.0, 1.0),
        spacing_median=(1.0, 1.0), spacing_max=(1.0, 1.0), space="none",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --size base: found model lenet, which has one size"):
        sized(plan(flat, "classification", "lenet"), "base")


@pytest.mark.parametrize("model", ["hybrid", "vit", "unetr"])
def test_every_word_reaches_networks_of_attention(model: str) -> None:
    first = plan(facts(), "segmentation" if model == "unetr" else "classification", model)
    counts = {word: parameters(sized(first, word)) for word in WORDS}
    assert counts["tiny"] == pytest.approx(1e6, rel=0.5)
    for word in ("small", "base", "large", "huge", "giant"):
        assert counts[word] == pytest.approx(WORDS[word] * 1e6, rel=0.2)
    made = sized(first, "giant")
    with torch.device("meta"):
        network = MODELS.load(model).build(made.model_options, 1, 2, made.ndim)
    assert all(p.is_meta for p in network.parameters())


@pytest.mark.parametrize(
    ("task", "model", "unit", "word"), [("detection", "fcos_attention", 32, "small"), ("segmentation", "swinunetr", 24, "base")]
)
def test_the_width_goes_up_as_the_model_asks(task: str, model: str, unit: int, word: str) -> None:
    boxes = ClassFacts(value=1, name="tumour", cases=90, fraction=0.02, boxes=90)
    made = sized(plan(facts(classes=(boxes,)), task, model), word)
    assert step(made.model_options) == unit
    assert made.model_options.model_dump()["width"] % unit == 0
    assert parameters(made) == pytest.approx(WORDS[word] * 1e6, rel=0.7)
