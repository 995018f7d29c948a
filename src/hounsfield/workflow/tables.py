"""Tables of a report: figures, classes, worst cases and decisions, as plain values for the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.core.plan import Class, Plan
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import Metrics, Row
from hounsfield.workflow.charts import Chart, decision_curves, strip
from hounsfield.workflow.confusions import SHOWN, Matrix, Recognised, is_multilabel, matrix, recognised
from hounsfield.workflow.console import first_few
from hounsfield.workflow.evaluate import Evaluation

PARTS: Final = {"train": "training", "val": "validation", "test": "test", "folds": "out-of-fold"}
USES: Final = {
    "selection": "Used for selection: it was looked at during training, so these figures may flatter.",
    "report": "Used for reporting alone: opened once, after training.",
    "development": (
        "The development estimate: it speaks of the single members, each case predicted only by those that did not train on it,"
        " and these cases chose nothing."
    ),
    "training": "Used for training: says nothing about new cases.",
    "another dataset": "Another dataset than the one trained on.",
}
TITLES: Final = {
    "auroc": "AUROC",
    "iou": "IoU",
    "map50": "mAP at IoU 0.5",
    "map": "mAP at IoU 0.5 to 0.95",
    "map10": "mAP at IoU 0.1",
    "froc": "FROC",
    "sensitivity_at_1": "Sensitivity at 1 false positive an image",
    "image_auroc": "AUROC of images",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "mae": "Mean absolute error",
    "gain": "PSNR gained (dB)",
    "psnr_given": "PSNR of what was given (dB)",
    "ssim_given": "SSIM of what was given",
    "ms_ssim_given": "MS-SSIM of what was given",
    "mae_given": "Mean absolute error of what was given",
    "explained": "Variance explained",
    **{f"sensitivity_{size}": f"Sensitivity, {size} ones" for size in ("small", "medium", "large")},
    "kid": "KID",
    "kid_real": "KID of real images",
    "fid": "FID",
    "fid_real": "FID of real images",
    **{f"{name}_real": f"{name.capitalize()} of real images" for name in ("precision", "recall", "density", "coverage")},
    "diversity_real": "Diversity of real images",
    "nearer_train": "Nearer to training images",
}
# What a figure says, for a reader of another field.
MEANINGS: Final = {
    "auroc": "how often a case with the finding is ranked above one without: 0.5 is chance, 1 perfect",
    "accuracy": "the share of cases given their class",
    "balanced_accuracy": "the mean over the classes of the share of their cases that was recognised",
    "sensitivity": "the share of cases with the finding that was recognised",
    "specificity": "the share of cases without the finding that was recognised",
    "average_precision": "precision averaged over all sensitivities: by chance the share of cases with the finding",
    "dice": "the overlap of predicted and true region (twice what they share over the sum of both): 0 none, 1 perfect",
    "map50": "average precision of boxes that overlap the truth by half: 0 none found, 1 all found and nothing else",
    "map": "the mean of it over ten overlaps, as COCO counts",
    "map10": "the same for boxes that hardly need to overlap: whether things are found, not how exactly",
    "froc": "mean sensitivity at 1/8 to 8 false positives an image",
    "image_auroc": "how often an image with a box is ranked above one without",
    "iou": "the overlap of predicted and true region (what they share over their union): 0 none, 1 perfect",
    "psnr": "the range of values over the root mean square error, on a logarithmic scale: 6 dB more is half of the error",
    "ssim": "how alike means, contrasts and patterns of small windows are: 1 for equal images",
    "ms_ssim": "the same of the image at up to five resolutions",
    "mae": "in the units of the images",
    "gain": "over what the network started from: holes filled smoothly from around them, coarse voxels interpolated",
    "explained": "the share of the variance of hidden voxels that was told from the others: 0 for their mean, 1 for all of it",
    "kid": "how far apart generated and real images lie by their features (squared maximum mean discrepancy): 0 where alike",
    "kid_real": "the same of training images in the place of the generated ones: what cannot be beaten",
    "fid": "how far apart they lie as two Gaussians (Fréchet); compares only at the same number of images",
    "fid_real": "the same of training images: what cannot be beaten",
    "precision": "the share of generated images that lie where real ones do",
    "recall": "the share of real images that lie where generated ones do",
    "density": "how crowded with real images the places of the generated ones are: 1 as among real ones",
    "coverage": "the share of real images that have a generated one nearby: few where a generator knows few kinds of image",
    "diversity": "MS-SSIM of pairs of generated images: 1 where all are one image",
    "diversity_real": "the same of real images, which that of the generated ones should be near",
    "nearer_train": "the share of generated images that are nearer to a training image than to a held-out one",
    "copies": "the share of generated images that are near copies of training images",
}
WORST: Final = 10  # cases listed by name
NAMED: Final = 6  # classes in the description of a case
LISTED: Final = 12  # values of a list of the plan


@dataclass(frozen=True)
class Figure:
    """One line of a table. intervals: one for each measure of the table. note: what is said of this line alone. meaning: what
    a whole figure tells. spread: how its cases' first measure is distributed, as `charts.strip` draws it; colour: of a class;
    both empty for other figures."""

    name: str
    intervals: tuple[Interval, ...]
    note: str
    meaning: str = ""
    colour: tuple[int, ...] = ()
    spread: str = ""


@dataclass(frozen=True)
class Section:
    """One evaluation. note: what is said of every figure; about: what they speak of. whole: figures over all classes; measures
    and classes: those that each class has; recognised and matrix: of a classification; worst: (id, what was found there), the
    worst first; curves: over decisions, as the task has them."""

    part: str
    use: str
    note: str
    about: str
    headline: Figure
    whole: tuple[Figure, ...]
    measures: tuple[str, ...]
    classes: tuple[Figure, ...]
    recognised: tuple[Recognised, ...]
    matrix: Matrix | None
    worst: tuple[tuple[str, str], ...]
    curves: tuple[Chart, ...] = ()

    @property
    def poorest(self) -> list[Figure]:
        """The classes with the lowest first measure."""
        return sorted((f for f in self.classes if math.isfinite(f.intervals[0].value)), key=lambda f: f.intervals[0].value)[
            :SHOWN
        ]

    @property
    def missed(self) -> list[Recognised]:
        """The classes whose cases were recognised least."""
        return sorted((r for r in self.recognised if r.cases), key=lambda r: r.share)[:SHOWN]


@dataclass(frozen=True)
class Decisions:
    """One group of the plan. reason: of the group as a whole; rows: (key, value, reason); others: (key, value) of what has no
    reason of its own."""

    group: str
    reason: str
    rows: tuple[tuple[str, str, str], ...]
    others: tuple[tuple[str, str], ...]


def title(name: str) -> str:
    """A figure's name for people: "auroc" -> "AUROC", "balanced_accuracy" -> "Balanced accuracy"."""
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def meaning(name: str, plan: Plan) -> str:
    """What a figure tells of this plan's classes; "" for a figure that says so itself."""
    text = MEANINGS.get(name, "")
    if len(plan.classes) < 2 or not text:
        return text
    if plan.task == "segmentation":
        return f"{text}; mean over classes and cases"
    several = len(plan.classes) > 2 or is_multilabel(plan)
    return f"{text.replace('the finding', 'the class')}; mean over the classes" if several and "the finding" in text else text


def section(evaluation: Evaluation, plan: Plan, metrics: Metrics) -> Section:
    """The tables of one evaluation."""
    figures = evaluation.metrics
    measures = [m for m in figures if all(f"{m}_{c.name}" in figures for c in plan.classes)]
    of_classes = {f"{m}_{c.name}" for m in measures for c in plan.classes}
    common = set.intersection(*(set(_notes(figure)) for figure in figures.values()))
    whole = {
        name: Figure(title(name), (figure,), _rest([figure], common), meaning(name, plan))
        for name, figure in figures.items()
        if name not in of_classes
    }
    rows = sorted((r for r in evaluation.rows if math.isfinite(metrics.worth(r))), key=metrics.worth)
    return Section(
        part=PARTS.get(evaluation.part, evaluation.part),
        use=USES.get(evaluation.used_for, evaluation.used_for),
        note="; ".join(note for note in _notes(figures[evaluation.headline]) if note in common),
        about=_about(evaluation, plan),
        headline=whole[evaluation.headline],
        whole=tuple(whole.values()),
        measures=tuple(title(m) for m in measures),
        classes=tuple(_class_figure(c, measures, evaluation, common) for c in plan.classes) if measures else (),
        recognised=recognised(evaluation.rows, plan),
        matrix=matrix(evaluation.rows, plan),
        worst=tuple((str(r["id"]), describe(r, evaluation.headline, plan.classes)) for r in rows[:WORST]),
        curves=decision_curves(metrics.curves(evaluation.rows), plan.classes),
    )


def describe(row: Row, headline: str, classes: Sequence[Class]) -> str:
    """What was found in one case, in a few words."""
    if "prediction" in row:
        given = row.get(f"p_{row['prediction']}")
        probability = "" if given is None else f" ({float(given):.2f})"
        return f"truth {row['truth'] or 'none'}, predicted {row['prediction'] or 'none'}{probability}"
    if "gain" in row:
        psnr, gain, ssim = (float(row[name]) for name in ("psnr", "gain", "ssim"))
        noise = f"; noise {float(row['noise']):.3g}" if "noise" in row else ""
        return f"PSNR {psnr:.1f} dB, {gain:+.1f} dB on what was given; SSIM {ssim:.3f}{noise}"
    if "found" in row:
        return f"{row['found']:.0f} found, {row['missed']:.0f} missed, {row['false']:.0f} false"
    if "nearest" in row:
        return f"{float(row['nearest']):.3g} from the nearest generated image"
    each = {c.name: float(row[name]) for c in classes if (name := f"{headline}_{c.name}") in row}
    if len(each) > NAMED:
        each = dict(sorted(each.items(), key=lambda pair: pair[1])[:NAMED])
    more = f" and {len(classes) - NAMED} better" if len(classes) > len(each) == NAMED else ""
    listed = ", ".join(f"{name} {value:.3f}" for name, value in each.items())
    return f"{title(headline)} {float(row[headline]):.3f}" + (f": {listed}{more}" if len(each) > 1 else "")


def decisions(plan: Plan) -> tuple[Decisions, ...]:
    """Every value of the plan with its reason, group by group."""
    values = plan.model_dump(mode="json", by_alias=True)
    reasons: dict[str, str] = values.pop("reasons")
    values.pop("schema")
    values["classes"] = [f"{c.name} ({c.value})" for c in plan.classes]
    values["normalise"] = dict(zip(plan.channels, values["normalise"], strict=True))
    loose = {key: value for key, value in values.items() if not isinstance(value, dict)}
    groups = {"": loose} | {key: value for key, value in values.items() if isinstance(value, dict)}
    return tuple(_group(group, inside, reasons) for group, inside in groups.items())


def _group(group: str, values: Mapping[str, Any], reasons: Mapping[str, str]) -> Decisions:
    why = {key: reasons.get(f"{group}.{key}" if group else key, "") for key in values}
    rows = tuple((key, _text(value), why[key]) for key, value in values.items() if why[key])
    return Decisions(group, reasons.get(group, ""), rows, tuple((k, _text(v)) for k, v in values.items() if not why[k]))


def _class_figure(c: Class, measures: Sequence[str], evaluation: Evaluation, common: Collection[str]) -> Figure:
    intervals = tuple(evaluation.metrics[f"{m}_{c.name}"] for m in measures)
    of_cases = f"{measures[0]}_{c.name}"
    values = [float(r[of_cases]) for r in evaluation.rows if of_cases in r]  # a precision over all cases has none for each
    return Figure(c.name, intervals, _rest(intervals, common), colour=c.colour, spread=strip(values) if values else "")


def _rest(intervals: Iterable[Interval], common: Collection[str]) -> str:
    """The notes of these figures that are not said of all."""
    return "; ".join(dict.fromkeys(note for interval in intervals for note in _notes(interval) if note not in common))


def _notes(interval: Interval) -> list[str]:
    return [note for note in interval.note.split("; ") if note]


def _about(evaluation: Evaluation, plan: Plan) -> str:
    if "prediction" not in evaluation.rows[0] or len(plan.classes) != 2 or is_multilabel(plan):
        return ""
    return f"Sensitivity, specificity and average precision take {plan.classes[1].name} as the finding."


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return first_few((f"{key} {_text(inside)}" for key, inside in value.items()), LISTED)
    if isinstance(value, list):
        return first_few((f"({_text(v)})" if isinstance(v, list) else _text(v) for v in value), LISTED) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
