"""What every task must keep, one function for each promise of `hounsfield.tasks.Task`; pairs with models are in test_pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.models import MODELS
from hounsfield.tasks import Task, outputs


def check_options_are_strict(member: Task, folder: Path) -> None:
    options = member.Options()
    assert member.Options.parse(json.loads(options.model_dump_json()), "plan") == options, "options change on their way to JSON"
    with pytest.raises(InputError) as caught:
        member.Options.parse({"no such key": 3}, "plan")
    assert caught.value.code == "BAD_PLAN"


def check_its_default_model_fits(member: Task, folder: Path) -> None:
    assert member.KIND in ("vector", "dense", "boxes", "generator", "masked"), f"kind {member.KIND!r}"
    assert MODELS.load(member.MODEL).OUTPUT in outputs(member), f"{member.MODEL} gives none of {outputs(member)}"


def check_a_dataset_without_targets_is_refused(member: Task, folder: Path) -> None:
    empty = Dataset((Sample("a", ()),), (), ("image",), None, "images", "one image", folder)
    if getattr(member, "TRUTH", "labels") != "labels":
        member.targets(empty)
        return
    with pytest.raises(InputError) as caught:
        member.targets(empty)
    assert caught.value.code in ("BAD_LABEL", "ONE_CLASS", "NO_FOREGROUND", "TOO_FEW")


def check_rules_decide_options_with_reasons(member: Task, folder: Path) -> None:
    for counts in ((50, 50), (97, 3)):
        decision = member.rules(facts(counts))
        assert set(decision.reasons) <= set(decision.changes), "a reason without a decision"
        member.Options.parse(decision.changes, "rules")


CHECKS = (
    check_options_are_strict,
    check_its_default_model_fits,
    check_a_dataset_without_targets_is_refused,
    check_rules_decide_options_with_reasons,
)


def facts(counts: tuple[int, ...]) -> Fingerprint:
    """A hundred 2D cases with so many of each class."""
    side = (64, 64)
    pixel = (1.0, 1.0)
    return Fingerprint(
        cases=100,
        patients=None,
        ndim=2,
        space="none",
        channels=("image",),
        modality=None,
        dtype="uint8",
        shape_min=side,
        shape_median=side,
        shape_max=side,
        spacing_min=pixel,
        spacing_median=pixel,
        spacing_max=pixel,
        intensity=(Intensity(low=0, median=90, high=255, mean=100, std=40),),
        classes=tuple(ClassFacts(value=k + 1, name=f"c{k}", cases=n, fraction=n / 100) for k, n in enumerate(counts)),
        schema=1,
    )
