"""The first words: who was trained on what, and how well, for one member and many, measured or not."""

from __future__ import annotations

import math

import pytest

from hounsfield.core.plan import Class
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import TASKS
from hounsfield.workflow.cover import in_order, measured, millions, purpose, trained
from hounsfield.workflow.evaluate import Evaluation
from hounsfield.workflow.run import Run


def evaluation(part: str = "test", value: float = 0.5, n: int = 9, low: float = 0.4) -> Evaluation:
    used = "selection" if part == "val" else "report"
    return Evaluation("segmentation", part, used, {"dice": Interval(value, low, 0.6, n, n)}, (), "dice")


def log(step: int, seconds: float) -> list[dict[str, float]]:
    return [{"step": step, "seconds": seconds}]


def test_one_network(segmenter: Run) -> None:
    said = trained(segmenter, 310_000, {"0-0": log(1200, 95.0)})
    count = len(segmenter.split.train)
    assert said.startswith(f"A unet of 0.31 million weights was trained on {count} 2D cases")
    assert "to outline liver, spleen, kidney, bone, vessel and lesion: 1,200 steps in batches of" in said
    assert said.endswith("in 95 s.")


def test_several_networks(segmenter: Run) -> None:
    said = trained(segmenter, 310_000, {f"{k}-0": log(100 + k, 60.0) for k in range(5)})
    assert said.startswith("5 networks, each a unet of 0.31 million weights, were trained on")
    assert "104 steps" in said
    assert said.endswith("each, in 5 min.")


def test_no_step(segmenter: Run) -> None:
    assert trained(segmenter, 310_000, {}).endswith("no step was taken yet.")


def test_how_well(segmenter: Run) -> None:
    plan = segmenter.plan
    said = measured(evaluation(), {"cases": {"test": 9}}, plan)
    assert said.startswith(
        "On the 9 test cases, which took no part in training, its Dice is 0.500 (95% interval 0.400 to 0.600)."
    )
    assert "Dice is the overlap" in said
    assert said.endswith("mean over classes and cases.")
    assert "On 9 of the 40 test cases" in measured(evaluation(), {"cases": {"test": 40}}, plan)
    assert "looked at during training" in measured(evaluation("val"), {"cases": {"val": 9}}, plan)
    assert "did not learn from it" in measured(evaluation("folds"), {"cases": {"train": 9}}, plan)
    assert "cases of elsewhere, another dataset" in measured(evaluation("elsewhere"), {"cases": {}}, plan)
    assert "interval" not in measured(evaluation(low=math.nan), {"cases": {"test": 9}}, plan)
    assert "not been measured" in measured(None, {"cases": {}}, plan)


def test_parts_before_other_datasets() -> None:
    parts = [e.part for e in in_order([evaluation(p) for p in ("another", "val", "folds", "test")])]
    assert parts == ["test", "folds", "val", "another"]


def test_what_for(classifier: Run) -> None:
    plan = classifier.plan
    assert purpose(plan) == "to tell healthy and lesion apart"
    several = plan.model_copy(update={"task_options": TASKS.load("classification").Options.parse({"multilabel": True}, "test")})
    assert purpose(several) == "to recognise healthy and lesion"
    many = plan.model_copy(update={"classes": tuple(Class(value=k, name=f"c{k}") for k in range(200))})
    assert purpose(many) == "to tell c0, c1, c2, c3, c4, c5 and 194 more apart"
    assert purpose(plan.model_copy(update={"task": "restoration", "classes": ()})) == "for restoration"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (340, "340"),
        (61_706, "62 thousand"),
        (310_000, "0.31 million"),
        (12_400_000, "12.4 million"),
        (1_200_000_000, "1.20 billion"),
    ],
)
def test_weights_for_people(count: int, text: str) -> None:
    assert millions(count) == text
