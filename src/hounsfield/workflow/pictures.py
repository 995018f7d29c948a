"""Pictures of a report: the worst, median and best cases drawn anew, and what the model looked at in two of them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from hounsfield.core.errors import CODES, InputError, ResourceError
from hounsfield.core.image import Image
from hounsfield.core.plan import Plan
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.core.sample import Sample
from hounsfield.tasks import RGB, TASKS, Row
from hounsfield.tasks.parts import drawing
from hounsfield.workflow.console import Console, track
from hounsfield.workflow.evaluate import Evaluation
from hounsfield.workflow.explain import heatmap
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run
from hounsfield.workflow.tables import describe

WIDEST: Final = 960  # pixels of a picture in the report


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
    they are there."""

    part: str = ""
    key: str = ""
    cases: tuple[Picture, ...] = ()
    heat: tuple[Picture, ...] = ()
    no_cases: str = ""
    no_heat: str = ""


@dataclass(frozen=True)
class _Drawn:
    title: str
    row: Row
    sample: Sample
    image: Image
    prediction: Prediction


def gallery(run: Run, evaluation: Evaluation | None, device: str, console: Console) -> Gallery:
    """Pictures of `evaluation`'s two worst, its median and its best case; where data or weights are gone only the reason."""
    if evaluation is None:
        return Gallery(no_cases="nothing was evaluated yet")
    try:
        predictor = Predictor(run, device)
        drawn = _predict(predictor, _pick(run, evaluation, predictor), console)
    except (InputError, ResourceError) as error:
        return Gallery(part=evaluation.part, no_cases=_why(run, error))
    cases = tuple(_case(run.plan, predictor, evaluation.headline, case) for case in drawn)
    slices = ", the slice with most of the truth" if run.plan.ndim == 3 else ""
    key = f"Left the image{slices}; right the truth filled and the prediction outlined, each class in its colour."
    dense = TASKS.load(run.plan.task).KIND == "dense"
    try:
        ends = [case for case in drawn if case.title in ("worst", "best")]
        heat = tuple(_heat(run.plan, predictor, case) for case in track(console, "explaining", ends))
    except (InputError, ResourceError) as error:
        return Gallery(evaluation.part, key if dense else "", cases, no_heat=_why(run, error))
    return Gallery(evaluation.part, key if dense else "", cases, heat)


def _pick(run: Run, evaluation: Evaluation, predictor: Predictor) -> list[tuple[str, Row, Sample]]:
    """(title, row, sample) of the cases shown, the worst first; fewer where there are fewer."""
    worth: Callable[[Row], float] = predictor.solver.metrics().worth
    rows = sorted((r for r in evaluation.rows if math.isfinite(worth(r))), key=lambda r: (worth(r), str(r["id"])))
    places = {"best": len(rows) - 1, "median": len(rows) // 2, "second worst": 1, "worst": 0}
    kept = {at: title for title, at in places.items() if 0 <= at < len(rows)}  # of one case with several titles the last
    samples = {s.id: s for s in run.dataset().samples}
    gone = [str(rows[at]["id"]) for at in kept if str(rows[at]["id"]) not in samples]
    if gone:
        raise InputError("NOT_FOUND", gone[0], found="no such case", expected="the run's cases", fix="put it back")
    return [(title, rows[at], samples[str(rows[at]["id"])]) for at, title in sorted(kept.items())]


def _predict(predictor: Predictor, chosen: Sequence[tuple[str, Row, Sample]], console: Console) -> list[_Drawn]:
    out = []
    for title, row, sample in track(console, "drawing cases", chosen):
        image = predictor.read(sample)
        out.append(_Drawn(title, row, sample, image, predictor(image)))
    return out


def _case(plan: Plan, predictor: Predictor, headline: str, case: _Drawn) -> Picture:
    caption = describe(case.row, headline, plan.classes)
    return _picture(case, caption, predictor.solver.draw(case.image, case.sample, case.prediction))


def _heat(plan: Plan, predictor: Predictor, case: _Drawn) -> Picture:
    if isinstance(case.prediction, ClassScores):
        target, where = int(np.argmax(case.prediction.probabilities)), None
        said = "the class that was predicted"
    else:
        assert isinstance(case.prediction, Image)
        target, where = _largest(plan, case.prediction), case.prediction
        said = "the largest class that was predicted"
    heat = heatmap(predictor, case.image, target, where)
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
    """A picture (H, W, 3) as a data: address, no wider than WIDEST, PNG or JPEG, whichever is smaller; its width and height."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(rgb)
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, max(1, round(picture.height * WIDEST / picture.width))), Pillow.Resampling.LANCZOS)
    coded = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 90, "subsampling": 0})):
        out = io.BytesIO()
        picture.save(out, kind, **options)
        coded.append((kind, out.getvalue()))
    kind, data = min(coded, key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", picture.width, picture.height


def _why(run: Run, error: InputError | ResourceError) -> str:
    """One sentence without the path, which may say more than a report should."""
    return f"{CODES[error.code]} ({error.code}; the data were {Path(run.record['data']).name})"
