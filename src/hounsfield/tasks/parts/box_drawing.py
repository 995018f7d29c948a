"""Pictures of predicted boxes with class and score; beside a truth, what was missed and what is a false alarm is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.data.prepare import Placement, prepare_boxes
from hounsfield.metrics import detection
from hounsfield.tasks.parts.drawing import picture

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

RGB = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]
Frame = tuple[int, int, int, int]  # left, top, right and bottom pixel of a picture
DASH = 5  # pixels of a dash, and of the gap behind it
LINE = 240  # pixels of a picture's shorter side for each pixel of a line's width
LETTERS = 40  # lines of text that would fill a picture's height, but that none is lower than SMALLEST pixels
SMALLEST = 11


@dataclass(frozen=True, eq=False)
class Judge:
    """What predictions are held against. overlap: IoU from which a box counts as found. known: class indices that the case was
    searched for, None for all: boxes of other classes are neither right nor wrong."""

    truth: Boxes
    overlap: float
    known: Sequence[int] | None = None

    def verdict(self, prediction: Boxes) -> tuple[Bools, Bools]:
        """Which boxes of the truth were missed, and which of the prediction are false alarms, as the figures count them."""
        assert prediction.scores is not None
        missed, wrong = np.ones(len(self.truth), dtype=bool), np.zeros(len(prediction), dtype=bool)
        for label in np.unique(prediction.labels).tolist():
            if self.known is not None and label not in self.known:
                continue
            own, theirs = np.flatnonzero(prediction.labels == label), np.flatnonzero(self.truth.labels == label)
            own = own[np.argsort(-prediction.scores[own], kind="mergesort")]
            overlap = detection.iou(prediction.corners[own], self.truth.corners[theirs])
            found = detection.match(overlap, self.overlap)
            missed[theirs[found[found >= 0]]] = False
            wrong[own] = found < 0
        return missed, wrong


def draw_boxes(image: Image, prediction: Boxes, classes: Sequence[Class], judge: Judge | None = None) -> RGB:
    """Left the image, right it with the predicted boxes drawn through, each in its class's colour, with its name and score, and
    the truth's dashed; of a volume the axial slice that most of the truth crosses, else the middle one of the best scored box.
    """
    at = None
    if image.ndim == 3:
        prediction = _canonical(prediction, image.geometry)
        judge = None if judge is None else replace(judge, truth=_canonical(judge.truth, image.geometry))
        at = _slice(prediction, None if judge is None else judge.truth, image.geometry.canonical().shape[0])
    plain = picture(image, at)
    sheet = _Sheet(plain, image.geometry, at)
    words: list[tuple[Frame, str, Colour]] = []
    false = [""] * len(prediction)
    if judge is not None:
        missed, wrong = judge.verdict(prediction)
        false = ["false " if w else "" for w in wrong]
        for k, frame in sheet.frames(judge.truth):
            c = classes[judge.truth.labels[k]]
            sheet.dash(frame, c.colour)
            words += [(frame, f"missed {c.name}", c.colour)] if missed[k] else []
    for k, frame in reversed(sheet.frames(prediction)):  # the best scored, which come first, on top
        c = classes[prediction.labels[k]]
        score = "" if prediction.scores is None else f": {prediction.scores[k]:.2f}"  # a space alone makes 1 0.89 a 10.89
        sheet.pen.rectangle(frame, outline=c.colour, width=sheet.wide)
        words.append((frame, f"{false[k]}{c.name}{score}", c.colour))
    for frame, text, colour in words:
        sheet.say(frame, text, colour)
    return np.concatenate([plain, np.asarray(sheet.page)], axis=1)


class _Sheet:
    """A picture that is drawn on: of a 2D image, or of the canonical slice `at` of a volume."""

    def __init__(self, plain: RGB, grid: Geometry, at: int | None) -> None:
        from PIL import Image as Pillow
        from PIL import ImageDraw, ImageFont

        self.at, self.mirrored = at, grid.space != "none"
        self.shape = grid.shape if at is None else grid.canonical().shape[1:]
        self.page = Pillow.fromarray(plain)
        self.pen: Pen = ImageDraw.Draw(self.page)
        self.font: Any = ImageFont.load_default(max(SMALLEST, self.page.height // LETTERS))
        self.wide = max(1, min(self.page.size) // LINE)

    def frames(self, boxes: Boxes) -> list[tuple[int, Frame]]:
        """Of those that cross the slice, index and place in the picture. boxes: of a volume in its canonical voxels."""
        n, places = boxes.ndim, np.arange(len(boxes))
        low, high = boxes.corners[:, n - 2 : n], boxes.corners[:, 2 * n - 2 :]
        if self.at is not None:
            crossed = (boxes.voxels[:, 0] <= self.at) & (self.at < boxes.voxels[:, n])
            places, low, high = places[crossed], low[crossed].copy(), high[crossed].copy()
            for axis in (0, 1) if self.mirrored else (0,):  # as `Image.preview` turns a slice
                low[:, axis], high[:, axis] = self.shape[axis] - high[:, axis], self.shape[axis] - low[:, axis]
        times = np.array([self.page.height, self.page.width]) / self.shape
        first = np.floor(low * times).astype(int)
        last = np.maximum(np.ceil(high * times).astype(int) - 1, first)
        rows = np.concatenate([first[:, ::-1], last[:, ::-1]], axis=1).tolist()
        return [(int(k), (left, top, right, bottom)) for k, (left, top, right, bottom) in zip(places, rows, strict=True)]

    def dash(self, frame: Frame, colour: Colour) -> None:
        left, top, right, bottom = frame
        for x in range(left, right + 1, 2 * DASH):
            for y in (top, bottom):
                self.pen.line((x, y, min(x + DASH, right), y), colour, self.wide)
        for y in range(top, bottom + 1, 2 * DASH):
            for x in (left, right):
                self.pen.line((x, y, x, min(y + DASH, bottom)), colour, self.wide)

    def say(self, frame: Frame, text: str, colour: Colour) -> None:
        """The text on a ground of the colour: above the frame where there is room, else at its upper edge."""
        width, height = (int(size) + 3 for size in self.pen.textbbox((0, 0), text, self.font)[2:])
        left = max(0, min(frame[0], self.page.width - width))
        top = frame[1] - height if frame[1] >= height else max(0, frame[1])
        self.pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
        self.pen.text((left + 1, top), text, (0, 0, 0) if dark else (255, 255, 255), self.font)


def _canonical(boxes: Boxes, grid: Geometry) -> Boxes:
    """Boxes of a source in voxels of its canonical grid."""
    n = grid.ndim
    return prepare_boxes(boxes, Placement(grid, (0,) * n, (1.0,) * n, grid.canonical().shape))


def _slice(prediction: Boxes, truth: Boxes | None, depth: int) -> int:
    """The slice that most boxes of the truth cross, near the middle of the run of such slices; else the middle of the best
    scored box; the middle one without boxes."""
    if truth is not None and len(truth):
        at = np.zeros(depth + 1, dtype=int)
        np.add.at(at, truth.voxels[:, 0].clip(0, depth), 1)
        np.add.at(at, truth.voxels[:, 3].clip(0, depth), -1)
        crossed = at[:-1].cumsum()
        most = np.flatnonzero(crossed == crossed.max())
        return int(most[len(most) // 2])
    if len(prediction):
        best = prediction.voxels[0 if prediction.scores is None else int(prediction.scores.argmax())]
        return int((best[0] + best[3] - 1) // 2)
    return depth // 2
