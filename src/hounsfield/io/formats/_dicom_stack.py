"""From DICOM frames to a grid: which series, in which order, and where in the patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.formats import Choices
from hounsfield.io.formats._dicom_file import File, label, missing
from hounsfield.io.formats._dicom_frames import Frame, bad_number
from hounsfield.io.series import called

Floats = npt.NDArray[np.float64]

# Two orientations are one when no direction cosine differs by more.
COSINE_TOLERANCE = 1e-3
# A stack is tilted when its direction leaves the slices' normal by more degrees. Less is kept, exactly, in the affine.
TILT_TOLERANCE = 0.5
# A slice lies in its place when it is no further from it than this part of the step between slices.
STEP_TOLERANCE = 0.2
# ... and within its plane no further than this part of a pixel.
SHIFT_TOLERANCE = 0.1
# Slices nearer than this, in mm, have one position.
SAME_POSITION = 1e-2
# X-ray projections: ImagerPixelSpacing is mm on the detector.
_PROJECTIONS = ("CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG")
# Modalities whose images always have a place in the patient.
_PLACED = ("CT", "MR", "PT")
# What the slices of a volume share beside their spacing.
_ONE_VALUE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "PhotometricInterpretation")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Slice:
    """One plane of the result: a frame, or between two frames where slices are missing: (1 - weight) near + weight far.
    shift: rows and columns, in voxels, at which its first pixel lies in an upright grid."""

    near: Frame
    far: Frame | None = None
    weight: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Stack:
    """slices: along the first axis of `geometry`, or the one of a 2D geometry."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()


def choose_series(folder: Path, files: Sequence[File], choices: Choices) -> tuple[list[File], tuple[str, ...]]:
    """The files of the one series, or of the chosen one, and notes. Localizers are left out where there is anything else.

    Raises InputError SEVERAL_SERIES, which lists them.
    """
    series: dict[str, list[File]] = defaultdict(list)
    for file in files:
        series[str(file.get("SeriesInstanceUID", ""))].append(file)
    chosen = _matching(series, choices.series)
    if len(chosen) != 1:
        listed = "; ".join(_describe(uid, members) for uid, members in sorted(series.items(), key=_by_number))
        raise InputError(
            "SEVERAL_SERIES",
            folder,
            found=f"{len(series)} series{_of_studies(files)}: {listed}"
            + (f", {len(chosen)} of them {choices.series!r}" if choices.series else ""),
            expected="one series",
            fix="choose one with --series, by its number or the end of its UID",
        )
    (uid,) = chosen
    scans = [file for file in series[uid] if not file.is_localizer]
    out = sum(file.is_localizer for file in (series[uid] if choices.series else files))
    return scans or series[uid], ((f"{out} localizer images were left out",) if scans and out else ())


def _of_studies(files: Sequence[File]) -> str:
    studies = {str(file.get("StudyInstanceUID", "")) for file in files}
    return f" of {len(studies)} studies" if len(studies) > 1 else ""


def _matching(series: Mapping[str, list[File]], wanted: str | None) -> list[str]:
    """UIDs of the series that a user can mean; without a wish, of those that are not localizers, or else of all."""
    if wanted is None:
        return [uid for uid, files in series.items() if not all(file.is_localizer for file in files)] or list(series)
    names = {uid: (files[0].get("SeriesNumber", ""), files[0].get("SeriesDescription", "")) for uid, files in series.items()}
    return called(wanted, {uid: (str(number), str(description)) for uid, (number, description) in names.items()})


def _describe(uid: str, files: Sequence[File]) -> str:
    number = files[0].get("SeriesNumber")
    return (
        f"{'no number' if number is None else f'number {number}'} (UID ...{uid[-6:]}): {len(files)} {files[0].modality} images"
    )


def _by_number(item: tuple[str, list[File]]) -> tuple[float, str]:
    number = item[1][0].get("SeriesNumber")
    return (float("inf") if number is None else float(number), item[0])


def volumes_of(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of a multi-frame file by volume: those that share every dimension index which differs at one position
    (an echo, a time, a segment). Raises InputError DUPLICATE_POSITION where no index tells them apart."""
    at: dict[tuple[float, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        at[tuple(round(x, 2) for x in frame.position or ())].append(frame)
    width = min(len(frame.dimensions) for frame in frames)
    telling = [j for j in range(width) if any(len({f.dimensions[j] for f in same}) > 1 for same in at.values())]
    groups: dict[tuple[int, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[tuple(frame.dimensions[j] for j in telling)].append(frame)
    return [groups[key] for key in sorted(groups)]


def single(frame: Frame) -> Stack:
    """A 2D grid: in its plane in the patient, on the X-ray detector, or nowhere. Raises InputError MISSING_TAG."""
    file = frame.file
    shape = (file.number("Rows"), file.number("Columns"))
    if frame.position is not None or frame.orientation is not None or file.modality in _PLACED:
        position, across, down, spacing = _place(frame)
        affine = np.zeros((4, 3))
        affine[:3] = _LPS_TO_RAS @ np.column_stack([down * spacing[0], across * spacing[1], position])
        affine[3, 2] = 1.0
        return Stack((Slice(frame),), Geometry(shape, affine))
    imager = [float(x) for x in file.get("ImagerPixelSpacing", ())]
    if file.modality in _PROJECTIONS and (frame.spacing or imager):
        keyword = "PixelSpacing" if frame.spacing else "ImagerPixelSpacing"
        spacing = frame.spacing or tuple(imager)
        if len(spacing) != 2 or not (np.isfinite(spacing).all() and min(spacing) > 0):
            raise bad_number(file.path, "BAD_SPACING", keyword, spacing, "two positive numbers")
        note = f"spacing is {keyword}: mm on the detector, where anatomy is magnified"
        return Stack((Slice(frame),), Geometry.from_spacing(shape, spacing, space="detector"), (note,))
    notes = ("PixelSpacing without a position was not used: distances are in px",) if frame.spacing else ()
    return Stack((Slice(frame),), Geometry.none(shape), notes)


def stack(where: Path, frames: Sequence[Frame], choices: Choices) -> Stack:
    """A volume, its slices sorted by position along their normal, whatever their numbers.

    Raises InputError MISSING_TAG, MIXED_ORIENTATION, MIXED_SLICES, DUPLICATE_UID, DUPLICATE_POSITION, GANTRY_TILT,
    MISSING_SLICE.
    """
    if len(frames) == 1:
        return single(frames[0])
    places = [_place(frame) for frame in frames]
    _same_orientation(where, frames, places)
    _same_plane(where, frames)
    _, across, down, spacing = places[0]
    normal = np.cross(across, down)
    positions = np.array([place[0] for place in places])
    order = np.argsort(positions @ normal, kind="stable")
    frames = [frames[i] for i in order]
    positions = positions[order]
    heights = (positions - positions[0]) @ normal
    _no_duplicates(where, frames, heights)
    direction = (positions[-1] - positions[0]) / heights[-1]  # per mm along the normal
    angle = _tilt(where, direction, normal, positions, heights, min(spacing), choices)
    slices, step, notes = _evenly(where, frames, heights, choices)
    file, plane = frames[0].file, np.column_stack([down * spacing[0], across * spacing[1]])
    shape, first = (file.number("Rows"), file.number("Columns")), positions[0]
    if angle > TILT_TOLERANCE:
        drift = np.linalg.pinv(plane) @ (direction - normal) * step  # voxels a slice
        slices, shape, corner = _upright(slices, shape, drift)
        direction, first = normal, first + plane @ corner
        notes += (f"resampled within its slices from a gantry tilt of {angle:.1f} degrees; around them is the lowest value",)
    affine = np.zeros((4, 4))
    affine[:3] = _LPS_TO_RAS @ np.column_stack([direction * step, plane, first])
    affine[3, 3] = 1.0
    return Stack(slices, Geometry((len(slices), *shape), affine), notes)


def _upright(
    slices: tuple[Slice, ...], shape: tuple[int, int], drift: Floats
) -> tuple[tuple[Slice, ...], tuple[int, int], Floats]:
    """The slices with their places in the smallest upright grid that holds all of them, its shape, and the voxel of the first
    slice, as rows and columns, that its corner is. drift: rows and columns from one slice to the next."""
    drift = np.where(np.abs(drift) * (len(slices) - 1) < SHIFT_TOLERANCE, 0.0, drift)
    total = drift * (len(slices) - 1)
    corner = np.minimum(0.0, -np.ceil(-total))
    placed = []
    for k, part in enumerate(slices):
        row, column = (float(x) for x in drift * k - corner)
        placed.append(replace(part, shift=(row, column)))
    rows, columns = (n + int(np.ceil(abs(t))) for n, t in zip(shape, total, strict=True))
    return tuple(placed), (rows, columns), corner


def _place(frame: Frame) -> tuple[Floats, Floats, Floats, tuple[float, ...]]:
    """Position, unit vectors of increasing column and row, spacing. Raises InputError MISSING_TAG, BAD_HEADER."""
    path = frame.file.path
    for keyword, value in (
        ("ImagePositionPatient", frame.position),
        ("ImageOrientationPatient", frame.orientation),
        ("PixelSpacing", frame.spacing),
    ):
        if value is None:
            raise missing(path, keyword)
    cosines = np.array(frame.orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(float(cosines[0] @ cosines[1])) > 1e-2:
        numbers = cosines.ravel().tolist()
        raise bad_number(path, "BAD_HEADER", "ImageOrientationPatient", numbers, "two orthogonal unit vectors")
    across, down = cosines / lengths[:, None]
    return np.array(frame.position, dtype=np.float64), across, down, frame.spacing or ()


def _same_orientation(where: Path, frames: Sequence[Frame], places: Sequence[tuple[Floats, Floats, Floats, object]]) -> None:
    cosines = np.array([np.concatenate(place[1:3]) for place in places])
    median = np.median(cosines, axis=0)
    apart = [f for f, c in zip(frames, cosines, strict=True) if np.abs(c - median).max() > COSINE_TOLERANCE]
    if apart:
        names = ", ".join(f.name for f in apart[:5]) + (", ..." if len(apart) > 5 else "")
        raise InputError(
            "MIXED_ORIENTATION",
            where,
            found=f"{len(apart)} of {len(frames)} slices oriented otherwise: {names}",
            expected=f"one orientation (cosines within {COSINE_TOLERANCE})",
            fix="move them out of the folder, or choose a series",
        )


def _same_plane(where: Path, frames: Sequence[Frame]) -> None:
    """Raises InputError MIXED_SLICES where size, samples, bits or spacing differ, DUPLICATE_UID."""
    uids: dict[str, Frame] = {}
    first = frames[0]
    for frame in frames:
        for keyword in _ONE_VALUE:
            values = [f.file.get(keyword) for f in (first, frame)]
            if values[0] != values[1]:
                raise _mixed(where, keyword, f"{values[0]} in {first.name}, {values[1]} in {frame.name}")
        if not np.allclose(first.spacing or (), frame.spacing or (), rtol=1e-3, atol=0):
            raise _mixed(where, "PixelSpacing", f"{first.spacing} in {first.name}, {frame.spacing} in {frame.name}")
        uid = str(frame.file.get("SOPInstanceUID", ""))
        if uid and uid in uids and uids[uid].file is not frame.file:
            raise InputError(
                "DUPLICATE_UID",
                where,
                found=f"one SOP Instance UID in {uids[uid].name} and {frame.name}",
                expected="each image once",
                fix="remove one of them",
            )
        uids.setdefault(uid, frame)


def _mixed(where: Path, keyword: str, found: str) -> InputError:
    return InputError(
        "MIXED_SLICES",
        where,
        found=f"{label(keyword)} {found}",
        expected="one value in a series",
        fix="move the others out of the folder, or choose a series",
    )


def _no_duplicates(where: Path, frames: Sequence[Frame], heights: Floats) -> None:
    near = np.flatnonzero(np.diff(heights) < SAME_POSITION)
    if near.size:
        first, second = frames[near[0]], frames[near[0] + 1]
        raise InputError(
            "DUPLICATE_POSITION",
            where,
            found=f"{first.name} and {second.name} at one position ({near.size} such pairs)",
            expected="one slice a position",
            fix="keep one volume of a time series or of several echoes in the folder",
        )


def _tilt(
    where: Path, direction: Floats, normal: Floats, positions: Floats, heights: Floats, pixel: float, choices: Choices
) -> float:
    """Degrees between the stack and its slices' normal. Raises InputError GANTRY_TILT where it may not be mended,
    MIXED_SLICES."""
    angle = float(np.degrees(np.arctan(np.linalg.norm(direction - normal))))
    if angle > TILT_TOLERANCE and not choices.fix_tilt:
        raise InputError(
            "GANTRY_TILT",
            where,
            found=f"slices stacked at {angle:.1f} degrees from their normal",
            expected=f"at most {TILT_TOLERANCE} degrees",
            fix="resample the series to an upright stack with --fix-tilt",
        )
    shift = float(np.linalg.norm(positions - positions[0] - heights[:, None] * direction, axis=1).max())
    if shift > SHIFT_TOLERANCE * pixel:
        raise InputError(
            "MIXED_SLICES",
            where,
            found=f"slices shifted within their plane by up to {shift:.2f} mm",
            expected=f"one line of slices (within {SHIFT_TOLERANCE} pixel)",
            fix="move the others out of the folder",
        )
    return angle


def _evenly(
    where: Path, frames: Sequence[Frame], heights: Floats, choices: Choices
) -> tuple[tuple[Slice, ...], float, tuple[str, ...]]:
    """The slices on an even grid, its step in mm, notes. With gaps allowed, missing slices are interpolated linearly."""
    count = len(frames)
    step = float(heights[-1]) / (count - 1)
    if np.abs(heights - step * np.arange(count)).max() <= STEP_TOLERANCE * step:
        return tuple(Slice(frame) for frame in frames), step, ()
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(count - 2) // 2])
    worst = int(np.abs(steps - usual).argmax())
    if not choices.allow_gaps:
        uneven = int((np.abs(steps - usual) > STEP_TOLERANCE * usual).sum())
        raise InputError(
            "MISSING_SLICE",
            where,
            found=f"a step of {steps[worst]:.2f} mm between {frames[worst].name} and {frames[worst + 1].name}, "
            f"{heights[worst]:.2f} mm from the first slice ({uneven} uneven steps)",
            expected=f"{usual:.2f} mm between slices (within {STEP_TOLERANCE:.0%})",
            fix="add the missing slices, or interpolate them with --allow-gaps",
        )
    slices, made = [], 0
    for height in usual * np.arange(round(float(heights[-1]) / usual) + 1):
        nearest = int(np.abs(heights - height).argmin())
        if abs(float(heights[nearest]) - height) <= STEP_TOLERANCE * usual:
            slices.append(Slice(frames[nearest]))
            continue
        above = int(np.clip(np.searchsorted(heights, height), 1, count - 1))
        weight = (height - float(heights[above - 1])) / float(steps[above - 1])
        slices.append(Slice(frames[above - 1], frames[above], float(np.clip(weight, 0, 1))))
        made += 1
    return tuple(slices), usual, (f"{made} of {len(slices)} slices were missing and are interpolated between their neighbours",)
