"""The plan: written and read without loss, strict, and plain about what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Augment, Class, Grid, Normalise, Options, Plan, Training


class TaskOptions(Options):
    """Of an imaginary task."""

    dice: float = 1.0
    weights: tuple[float, ...] = ()


class ModelOptions(Options):
    """Of an imaginary model."""

    width: int = 16
    strides: tuple[tuple[int, ...], ...] = ((2, 2),)


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "task": "segmentation",
        "model": "unet",
        "ndim": 2,
        "classes": (Class(value=255, name="vessel", code=("SCT", "59820001", "Blood vessel")),),
        "channels": ("red", "green"),
        "grid": Grid(spacing=(0.5, 0.7)),
        "normalise": (Normalise(scope="case"), Normalise(scope="dataset", low=-1, high=3, mean=1, std=0.5)),
        "patch": (64, 48),
        "task_options": TaskOptions(dice=0.3),
        "model_options": ModelOptions(width=8),
        "reasons": {"patch": "because"},
    }
    return Plan(**{**values, **changes})


def parse(values: Any) -> Plan:
    return Plan.parse_as(values, Path("plan.json"), TaskOptions, ModelOptions)


def test_what_is_written_is_read() -> None:
    one = plan()
    text = one.to_json()
    again = parse(json.loads(text))
    assert again == one
    assert type(again.model_options) is ModelOptions
    assert again.to_json() == text
    assert json.loads(text)["schema"] == 1


def test_a_plan_does_not_change() -> None:
    with pytest.raises(ValidationError):
        plan().task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "key", "nearest"),
    [
        ({"pacth": [64, 48]}, "pacth", "patch"),
        ({"training": {"setps": 3}}, "training.setps", "steps"),
        ({"task_options": {"dise": 1}}, "dise", "dice"),
        ({"model_options": {"widht": 1}}, "widht", "width"),
        ({"classes": [{"value": 1, "name": "a", "color": [0, 0, 0]}]}, "classes.0.color", "colour"),
        ({"normalise": [{"scope": "case"}, {"scope": "case", "means": 1}]}, "normalise.1.means", "mean"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(change: dict[str, Any], key: str, nearest: str) -> None:
    values = {**json.loads(plan().to_json()), **change}
    with pytest.raises(InputError) as error:
        parse(values)
    assert error.value.code == "BAD_PLAN"
    assert error.value.found == f"unknown key {key!r}"
    assert error.value.fix == f"did you mean {nearest!r}?"
    assert error.value.where.startswith("plan.json")


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"ndim": 4}, "'ndim' = 4", "2 or 3"),
        ({"training": {"steps": "many"}}, "'training.steps' = 'many'", "valid integer"),
        ({"training": {"lr": 0}}, "'training.lr' = 0", "greater than 0"),
        ({"augment": {"scale": 1.0}}, "'augment.scale' = 1.0", "less than 1"),
        ({"normalise": [{"scope": "case", "std": 0}, {"scope": "case"}]}, "'normalise.0.std' = 0", "greater than 0"),
        ({"schema": 2}, "'schema' = 2", "1"),
        ({"patch": [64]}, "patch = [64] in 2D, where it takes 2 numbers above 0", "fit together"),
        ({"patch": [64, 0]}, "patch = [64, 0]", "fit together"),
        ({"grid": {"spacing": [1, 1, 1]}}, "grid.spacing = [1.0, 1.0, 1.0] in 2D", "fit together"),
        ({"grid": {"size": [8]}}, "grid.size = [8] in 2D", "fit together"),
        ({"normalise": [{"scope": "case"}]}, "normalise for 1 of 2 channels", "fit together"),
        ({"augment": {"mirror": [2]}}, "augment.mirror = [2] where the axes are 0 to 1", "fit together"),
        ({"augment": {"rotation": [1, 2]}}, "augment.rotation = [1.0, 2.0], too many angles for 2D", "fit together"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(change: dict[str, Any], found: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        parse({**json.loads(plan().to_json()), **change})
    assert error.value.code == "BAD_PLAN"
    assert error.value.found.startswith(found)
    assert expected in error.value.expected
    assert error.value.exit_code == 2


def test_overrides_are_recorded_as_the_reason() -> None:
    one = plan()
    two = one.override({"model_options.width": 32, "patch": [32, 32], "augment.mirror": [1]}, "set by --set")
    assert isinstance(two.model_options, ModelOptions)
    assert (two.model_options.width, two.patch, two.augment.mirror) == (32, (32, 32), (1,))
    assert two.reasons == {"patch": "set by --set", "model_options.width": "set by --set", "augment.mirror": "set by --set"}
    assert one == plan()
    assert two.override({}, "nothing") == two


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model_options.widht", "model_options.width"),
        ("traning.steps", "training.steps"),
        ("patch.size", None),
        ("seed.x", None),
    ],
)
def test_an_override_of_an_unknown_key(key: str, nearest: str | None) -> None:
    with pytest.raises(InputError) as error:
        plan().override({key: 1}, "why")
    assert error.value.code == "BAD_PLAN"
    assert error.value.where == f"--set {key}"
    if nearest is not None:
        assert error.value.fix == f"did you mean {nearest!r}?"


def test_an_override_of_another_type() -> None:
    with pytest.raises(InputError, match=r"^BAD_PLAN --set.*'training.steps' = 'x', expected .*integer"):
        plan().override({"training.steps": "x"}, "why")
    with pytest.raises(InputError, match=r"^BAD_PLAN --set model_options: found 'width' = 'x'"):
        plan().override({"model_options.width": "x"}, "why")


def test_three_angles_or_fewer_in_3d() -> None:
    for rotation in ((), (5.0,), (5.0, 0.0, 1.0)):
        assert plan(ndim=3, patch=(4, 4, 4), grid=Grid(), augment=Augment(rotation=rotation)).augment.rotation == rotation
    with pytest.raises(ValidationError, match="too many angles"):
        plan(ndim=3, patch=(4, 4, 4), grid=Grid(), augment=Augment(rotation=(1, 2, 3, 4)))


@pytest.mark.parametrize(
    "changes", [{"warmup": 1.1}, {"ema": 1.0}, {"batch": 0}, {"accumulate": 0}, {"foreground": -0.1}, {"empty": 1.0}]
)
def test_training_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Training(**changes)


def test_a_typo_within_a_player_names_the_nearest_key() -> None:
    players = {"generator": {"rat": 2.0}}
    with pytest.raises(InputError, match=r"unknown key 'players.generator.rat'.*did you mean 'rate'"):
        Training.parse({"players": players}, "plan")
    made = Training.parse({"players": {"generator": {"rate": 2.0}}}, "plan")
    assert made.players["generator"].betas == (0.9, 0.999)
