"""Pictures of a report: the worst, median and best cases drawn anew, and what the model looked at in two of them."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import CODES, InputError, ResourceError
from hounsfield.core.image import Image
from hounsfield.core.plan import Plan
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.core.sample import Sample
from hounsfield.tasks import RGB, TASKS, Row, restoration
from hounsfield.tasks.parts import drawing
from hounsfield.workflow.console import Console, track
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.evaluate import Evaluation
from hounsfield.workflow.explain import heatmap
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run
from hounsfield.workflow.tables import describe

if TYPE_CHECKING:
    from PIL import Image as Pillow

WIDEST: Final = 960  # pixels of a picture in the report
PLAIN: Final = 60_000  # bytes of a PNG up to which a JPEG is not tried
PLACES: Final = ("worst", "second worst", "median", "best")  # in the page
URGENCY: Final = ("worst", "best", "median", "second worst")  # in time, which may end
NO_CLASS: Final = "what is predicted has no classes, whose evidence they would show"
NO_TIME: Final = "the budget left no time for them; hounsfield report draws them"
# Of a generator, as evaluation left them.
SETS: Final = {
    "generated": "drawn by the model, the first of those that were measured",
    "real": "held-out images that they were compared with",
    "closest": "the pairs whose features are most alike: left a generated image, right the training image nearest to it",
}
SYNTHETIC: Final = "What is called generated is synthetic: it shows no patient."

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """title: "worst", ...; case: the sample's id; caption: what was found there; source: a data: address; width, height: px."""

    title: str
    case: str
    caption: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """part: of which the cases are. key: how to read a case's picture. no_cases, no_heat: why pictures are left out, "" where
    they are there. short: whether cases were left out for want of time. about: what is said of pictures that are no cases, ""
    where they are."""

    part: str = ""
    key: str = ""
    cases: tuple[Picture, ...] = ()
    heat: tuple[Picture, ...] = ()
    no_cases: str = ""
    no_heat: str = ""
    short: bool = False
    about: str = ""


@dataclass(frozen=True)
class _Drawn:
    predictor: Predictor
    title: str
    row: Row
    sample: Sample
    image: Image
    prediction: Prediction
    rgb: RGB


def gallery(
    run: Run,
    evaluation: Evaluation | None,
    device: str,
    console: Console,
    *,
    folds: Sequence[Sequence[str]] = (),
    seconds: float = math.inf,
) -> Gallery:
    """Pictures of `evaluation`'s two worst, its median and its best case; where data or weights are gone only the reason.

    folds: ids of each fold of a cross-validation; the cases of the part "folds" are predicted as they were measured, by the
    members of their own fold. seconds: that this may take; a picture that would likely overstep it is left out.
    """
    if evaluation is None:
        return Gallery(no_cases="nothing was evaluated yet")
    watch = _Watch(seconds)
    task = TASKS.load(run.plan.task)
    if task.KIND == "generator":
        return _sets(run, evaluation)
    slices = ", the slice with most of the truth" if run.plan.ndim == 3 else ""
    key = getattr(task, "KEY", "") or {
        "dense": f"Left the image{slices}; right the truth filled and the prediction outlined, each class in its colour.",
        "boxes": f"Left the image{slices}; right the truth dashed and the prediction drawn through with its score, each class "
        "in its colour; what was missed and what is false is named so.",
    }.get(task.KIND, "")
    try:
        chosen = _pick(run, evaluation)
        predictor_of = _predictors(run, device, folds if evaluation.part == "folds" else ())
        drawn = [_drawn(predictor_of, *case) for case in watch.while_time(track(console, "drawing cases", chosen))]
    except (InputError, ResourceError) as error:
        return Gallery(evaluation.part, no_cases=_why(run, error))
    if not drawn:
        return Gallery(evaluation.part, no_cases=NO_TIME)
    drawn.sort(key=lambda case: PLACES.index(case.title))
    cases = tuple(_case(run.plan, evaluation.headline, case) for case in drawn)
    short = len(drawn) < len(chosen)
    if not run.plan.classes:
        return Gallery(evaluation.part, key, cases, no_heat=NO_CLASS, short=short)
    try:
        ends = [case for case in drawn if case.title in ("worst", "best")]
        heat = tuple(_heat(run.plan, case) for case in watch.while_time(track(console, "explaining", ends)))
    except (InputError, ResourceError) as error:
        return Gallery(evaluation.part, key, cases, no_heat=_why(run, error), short=short)
    return Gallery(evaluation.part, key, cases, heat, no_heat="" if heat else NO_TIME, short=short)


def _sets(run: Run, evaluation: Evaluation) -> Gallery:
    """The pictures that the evaluation of a generator left."""
    from PIL import Image as Pillow

    shown = []
    for name, about in SETS.items():
        path = run.root / "evaluation" / f"{evaluation.part}-{name}.png"
        if path.is_file():
            with Pillow.open(path) as picture:
                source, width, height = encode(np.asarray(picture.convert("RGB")))
            shown.append(Picture(name, evaluation.part, about, source, width, height))
    if not shown:
        return Gallery(evaluation.part, no_cases="the evaluation left none")
    return Gallery(evaluation.part, cases=tuple(shown), about=SYNTHETIC)


class _Watch:
    """Lets pictures be made while there is time for one more as slow as the slowest."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.slowest = 0.0

    def while_time(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            begun = time.monotonic()
            if begun + self.slowest >= self.ends:
                return
            yield item
            self.slowest = max(self.slowest, time.monotonic() - begun)


def _pick(run: Run, evaluation: Evaluation) -> list[tuple[str, Row, Sample]]:
    """(title, row, sample) of the cases shown, the most telling first; fewer where there are fewer."""
    worth = run.solver.metrics().worth
    rows = sorted((r for r in evaluation.rows if math.isfinite(worth(r))), key=lambda r: (worth(r), str(r["id"])))
    places = {"best": len(rows) - 1, "median": len(rows) // 2, "second worst": 1, "worst": 0}
    kept = {at: title for title, at in places.items() if 0 <= at < len(rows)}  # of one case with several titles the last
    samples = {s.id: s for s in run.dataset().samples}
    gone = [str(rows[at]["id"]) for at in kept if str(rows[at]["id"]) not in samples]
    if gone:
        raise InputError("NOT_FOUND", gone[0], found="no such case", expected="the run's cases", fix="put it back")
    chosen = [(title, rows[at], samples[str(rows[at]["id"])]) for at, title in kept.items()]
    return sorted(chosen, key=lambda case: URGENCY.index(case[0]))


def _predictors(run: Run, device: str, folds: Sequence[Sequence[str]]) -> Callable[[str], Predictor]:
    """Who predicts the case of an id: all members, or with folds those that did not train on it. Raises InputError NOT_A_RUN
    where they are not there."""
    if not folds:
        whole = Predictor(run, device)
        return lambda _: whole
    models = dict(zip((m.name for m in run.members), run.models(choose_device(device)), strict=True))

    def of(case: str) -> Predictor:
        fold = next((k for k, ids in enumerate(folds) if case in ids), None)
        own = [model for name, model in models.items() if name.split("-")[0] == str(fold)]
        if not own:
            found = f"no member of the fold of {case}"
            raise InputError("NOT_A_RUN", run.root, found=found, expected="one", fix="finish the training with --resume")
        return Predictor.of(run.plan, own)

    return of


def _drawn(predictor_of: Callable[[str], Predictor], title: str, row: Row, sample: Sample) -> _Drawn:
    predictor = predictor_of(sample.id)
    image, solver = predictor.pose(sample), predictor.solver
    prediction: Prediction
    if isinstance(solver, restoration.Solver) and solver.can_disagree(len(predictor.models)):
        # One view more than is averaged anyway, at most: what a picture takes was set aside for those.
        prediction, spread = predictor.spread(image, most=1)
        rgb = solver.draw(image, sample, prediction, spread)
    else:
        prediction = predictor(image)
        rgb = solver.draw(image, sample, prediction)
    return _Drawn(predictor, title, row, sample, image, prediction, rgb)


def _case(plan: Plan, headline: str, case: _Drawn) -> Picture:
    return _picture(case, describe(case.row, headline, plan.classes), case.rgb)


def _heat(plan: Plan, case: _Drawn) -> Picture:
    if isinstance(case.prediction, ClassScores):
        target, where = int(np.argmax(case.prediction.probabilities)), None
        said = "the class that was predicted"
    elif isinstance(case.prediction, Boxes):
        scores = case.prediction.scores
        surest = None if scores is None or not len(scores) else int(np.argmax(scores))
        target, where = 0 if surest is None else int(case.prediction.labels[surest]), None
        said = "the class of the box with the highest score"
    else:
        assert isinstance(case.prediction, Image)
        target, where = _largest(plan, case.prediction), case.prediction
        said = "the largest class that was predicted"
    heat = heatmap(case.predictor, case.image, target, where)
    return _picture(case, f"evidence for {plan.classes[target].name}, {said}", drawing.heat(case.image, heat))


def _largest(plan: Plan, labels: Image) -> int:
    """Index of the class with most voxels in a predicted mask; 0 where it is empty."""
    regions = labels.channels > 1
    sizes = [np.count_nonzero(labels.array[k] if regions else labels.array[0] == c.value) for k, c in enumerate(plan.classes)]
    return int(np.argmax(sizes))


def _picture(case: _Drawn, caption: str, rgb: RGB) -> Picture:
    source, width, height = encode(rgb)
    return Picture(case.title, case.sample.id, caption, source, width, height)


def encode(rgb: RGB) -> tuple[str, int, int]:
    """A picture (H, W, 3) as a data: address, no wider than WIDEST; its width and height. PNG, or JPEG where that is smaller
    and the PNG is large."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(rgb)
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, max(1, round(picture.height * WIDEST / picture.width))), Pillow.Resampling.LANCZOS)
    kind, data = "png", _coded(picture, "png", compress_level=6)
    if len(data) > PLAIN:
        lossy = _coded(picture, "jpeg", quality=88, subsampling=0)
        kind, data = ("jpeg", lossy) if len(lossy) < len(data) else (kind, data)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", picture.width, picture.height


def _coded(picture: Pillow.Image, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _why(run: Run, error: InputError | ResourceError) -> str:
    """One sentence without the path, which may say more than a report should."""
    return f"{CODES[error.code]} ({error.code}; the data were {Path(run.record['data']).name})"
