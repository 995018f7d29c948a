"""The first words of a report: what was trained on what, and how well it does, for a reader who knows nothing of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hounsfield.core.plan import Plan
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import restoration
from hounsfield.workflow.charts import Log
from hounsfield.workflow.confusions import is_multilabel
from hounsfield.workflow.console import first_few
from hounsfield.workflow.evaluate import Evaluation
from hounsfield.workflow.run import Run, draws_from_masks
from hounsfield.workflow.tables import PARTS, meaning, title
from hounsfield.workflow.timeline import seconds_text

NAMED: Final = 6  # classes named in a sentence
WHAT: Final = {
    "test": "test cases, which took no part in training",
    "unseen": "held-out cases, which took no part in training",
    "val": "validation cases, which it did not learn from but which were looked at during training",
    "folds": "training cases, each predicted only by members that did not learn from it",
}


def trained(run: Run, weights: int, logs: Mapping[str, Log]) -> str:
    """What was trained, to do what, on what, for how long; one sentence. weights: of one member."""
    plan, record = run.plan, run.record
    cases = record["cases"].get("train", 0)
    patients = "" if run.fingerprint.patients is None else f" of {run.fingerprint.patients:,} patients"
    data = f"on {cases:,} {plan.ndim}D case{'s' * (cases != 1)}{patients} from {Path(record['data']).name}"
    size = f"a {plan.network} of {millions(weights)} weights"
    ends = [log[-1] for log in logs.values()]
    if not ends:
        return f"{size.capitalize()} is to be trained {data} {purpose(plan)}; no step was taken yet."
    took = seconds_text(sum(float(end["seconds"]) for end in ends))
    done = f"{max(int(end['step']) for end in ends):,} steps"
    many = f"{len(ends)} networks, each {size}, were trained" if len(ends) > 1 else f"{size} was trained"
    each = " each" if len(ends) > 1 else ""
    return capital(f"{many} {data} {purpose(plan)}: {done} in batches of {plan.training.batch}{each}, in {took}.")


def measured(evaluation: Evaluation | None, record: Mapping[str, Any], plan: Plan) -> str:
    """How well it does; one or two sentences."""
    if evaluation is None:
        return "How well it does has not been measured yet: the training did not end."
    figure = evaluation.metrics[evaluation.headline]
    every = record["cases"].get("train" if evaluation.part == "folds" else evaluation.part, figure.n)
    counted = f"{figure.n:,} of the {every:,}" if figure.n < every else f"the {figure.n:,}"
    part = "unseen" if (evaluation.part, evaluation.used_for) == ("val", "report") else evaluation.part
    what = WHAT.get(part, f"cases of {evaluation.part}, another dataset")
    name, told = title(evaluation.headline), meaning(evaluation.headline, plan)
    return f"On {counted} {what}, its {name} is {_with_bounds(figure)}." + (f" {name} is {told}." if told else "")


def purpose(plan: Plan) -> str:
    """ "to outline liver and spleen"."""
    names = [c.name for c in plan.classes]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if 1 < len(names) <= NAMED else first_few(names, NAMED)
    if plan.task == "segmentation":
        return f"to outline {listed}"
    if plan.task == "classification":
        return f"to recognise {listed}" if is_multilabel(plan) else f"to tell {listed} apart"
    if isinstance(plan.task_options, restoration.Options):
        repairs = {"denoise": "to take noise away", "inpaint": "to fill holes", "upscale": "to raise resolution"}
        return repairs[plan.task_options.repair]
    if plan.task == "pretraining":
        return "to fill in what was hidden of them"
    if plan.task == "generation":
        of = "from masks of" if draws_from_masks(plan) else "of"
        return "to draw new images" + (f" {of} {listed}" if listed else "")
    return f"for {plan.task}" + (f" of {listed}" if listed else "")


def millions(weights: int) -> str:
    """ "340", "61 thousand", "0.31 million", "12.4 million", "1.20 billion"."""
    if weights < 1e5:
        return f"{weights / 1e3:.0f} thousand" if weights >= 1e4 else f"{weights:,}"
    size, word = (1e9, "billion") if weights >= 1e9 else (1e6, "million")
    return f"{weights / size:.{2 if weights < 10 * size else 1}f} {word}"


def in_order(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The run's own parts before other datasets: test first, then out-of-fold, then validation."""
    order = ("test", "folds", "val", "train")
    return sorted(evaluations, key=lambda e: (order.index(e.part) if e.part in PARTS else len(order), e.part))


def _with_bounds(figure: Interval) -> str:
    if figure.value != figure.value:
        return "without a value" + (f" ({figure.note})" if figure.note else "")
    bounds = f" (95% interval {figure.low:.3f} to {figure.high:.3f})" if figure.known else ""
    return f"{figure.value:.3f}{bounds}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
