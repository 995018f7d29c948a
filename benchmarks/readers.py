"""Our readers beside nibabel, SimpleITK and dcm2niix: the same voxels at the same places, and how long a CT series takes.

Usage: python benchmarks/readers.py [--data ../shared/data] [--only equality|speed]

Equality: every file that comes with pydicom and nibabel, and the series in DATA's `dicom_*` folders where they are there. Two
readings are the same when one is the other after permuting and flipping axes, no voxel further than 0.01 mm from its place and
no value further than float32's rounding. Prints Markdown; ends with 1 on a difference that no line of WHY explains.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_timing import OURS, Row, Table, peer, side_by_side

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.formats import Choices

ROOT = Path(__file__).parents[1]
NEAR = 0.01  # mm
SLICES = 300
SECONDS = 20.0
# Which files differ, from whom, and how (parts of the name, the readers and the verdict): who is right, and why.
_OWN_JPEG = "SimpleITK has our values; dcm2niix decodes JPEG and its chroma itself, with other rounding"
_SWAPPED = "we: the picture has pure red there (65535, 0, 0); SimpleITK mixes the bytes of RLE samples of more than 8 bits"
WHY: dict[tuple[str, str, str], str] = {
    ("J2K_pixelrep_mismatch", "dcm2niix", "values"): "we, as SimpleITK: the samples are signed, as the header says",
    (
        "JPEG-lossy",
        "SimpleITK",
        "UNSUPPORTED",
    ): "SimpleITK: JPEG of 12 bits; the one decoder that we could take for it ends the process on damaged files",
    ("JPGExtended", "SimpleITK", "UNSUPPORTED"): "SimpleITK: the same",
    ("SC_jpeg", "dcm2niix", "values"): _OWN_JPEG,
    ("SC_rgb_jpeg", "dcm2niix", "values"): _OWN_JPEG,
    ("SC_rgb_dcmtk", "dcm2niix", "values"): _OWN_JPEG,
    ("examples_ybr_color", "dcm2niix", "values"): _OWN_JPEG,
    ("SC_rgb_rle_16bit", "SimpleITK", "values"): _SWAPPED,
    ("SC_rgb_rle_32bit", "SimpleITK", "values"): _SWAPPED,
    ("SC_rgb_rle_32bit", "dcm2niix", "shape"): "we, as pydicom: it drops colours of 32 bits",
    ("SC_rgb_small_odd_big_endian", "dcm2niix", "values"): "we, as SimpleITK: bytes of 8-bit pixels are swapped in pairs",
    ("examples_palette", "dcm2niix", "shape"): "both: it keeps the indices, we and SimpleITK apply the palette",
    ("badVR", "SimpleITK, dcm2niix", "WRONG_FORMAT"): "both: a dose grid, which is no image of the patient to us",
    ("rtdose", "SimpleITK, dcm2niix", "WRONG_FORMAT"): "both: a dose grid",
    ("liver", "SimpleITK, dcm2niix", "BAD_HEADER"): "we: it says one frame, and describes three",
    (
        "nibabel/0.dcm",
        "SimpleITK, dcm2niix",
        "WRONG_DIMENSION",
    ): "dcm2niix: a mosaic, which it unfolds; SimpleITK takes it for one slice, whose place is then wrong",
    ("nibabel/1.dcm", "SimpleITK, dcm2niix", "WRONG_DIMENSION"): "the same",
    ("siemens_dwi", "SimpleITK, dcm2niix", "WRONG_DIMENSION"): "the same",
    ("resampled_anat_moved", "nibabel, SimpleITK", "NOT_FINITE"): "both: voxels that are NaN, which we refuse",
    ("gantry_tilt", "SimpleITK", "GANTRY_TILT"): "we: SimpleITK stacks the slices as if upright; `--fix-tilt` resamples them",
    ("gantry_tilt", "dcm2niix", "GANTRY_TILT"): "both: it resamples unasked, we do with `--fix-tilt`",
}

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """array: (C, *spatial); affine: (4, n + 1) from array indices to R, A, S, None where the reader knows no place."""

    array: Array
    affine: Floats | None


def ours(path: Path, choices: Choices) -> Volume:
    image = io.read(path, choices)
    placed = image.geometry.space == "patient"
    return Volume(image.array, np.asarray(image.geometry.affine) if placed else None)


def by_nibabel(path: Path) -> list[Volume]:
    """The volumes of a file."""
    nibabel: Any = peer("nibabel")
    stored = nibabel.load(path)
    array = np.asanyarray(stored.dataobj)
    if array.dtype.fields is not None:
        array = np.stack([array[name] for name in array.dtype.names[:3]], -1)[:, :, :, None]
    affine = np.asarray(stored.affine, dtype=np.float64)[:, [2, 1, 0, 3]]
    array = array.reshape(*array.shape, *[1] * (5 - array.ndim))
    return [Volume(array[:, :, :, k].transpose(3, 2, 1, 0), affine) for k in range(array.shape[3])]


def of_sitk(stored: Any) -> Volume:
    sitk = peer("SimpleITK")
    array, ndim = sitk.GetArrayFromImage(stored), stored.GetDimension()
    array = np.moveaxis(array, -1, 0) if stored.GetNumberOfComponentsPerPixel() > 1 else array[np.newaxis]
    origin = np.array(stored.TransformIndexToPhysicalPoint([0] * ndim))
    steps = [np.array(stored.TransformIndexToPhysicalPoint([int(k == j) for j in range(ndim)])) - origin for k in range(ndim)]
    affine = np.zeros((4, ndim + 1))
    rows = min(ndim, 3)  # time has no place
    affine[:rows, :ndim] = np.array(steps[::-1]).T[:rows]
    affine[:rows, ndim] = origin[:rows]
    affine[:2] *= -1
    affine[3, ndim] = 1
    return Volume(array, affine)


def by_sitk(path: Path) -> list[Volume]:
    """A file, or the series of a folder as its sorting of file names gives it."""
    sitk = peer("SimpleITK")
    if path.is_file():
        return [of_sitk(sitk.ReadImage(str(path)))]
    reader = sitk.ImageSeriesReader()
    (uid,) = reader.GetGDCMSeriesIDs(str(path))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path), uid))
    return [of_sitk(reader.Execute())]


def by_dcm2niix(path: Path) -> list[Volume]:
    """Every volume that it writes for a file, alone in a folder, or for a folder; without Philips' display scale."""
    program = Path(peer("dcm2niix").bin)
    with tempfile.TemporaryDirectory() as given, tempfile.TemporaryDirectory() as out:
        folder = path
        if path.is_file():
            shutil.copy(path, given)
            folder = Path(given)
        command = [str(program), "-b", "n", "-z", "n", "-m", "n", "-p", "n", "-f", "%s_%d", "-o", out, str(folder)]
        subprocess.run(command, capture_output=True, check=False, timeout=300)
        return [volume for file in sorted(Path(out).glob("*.nii")) for volume in by_nibabel(file)]


def verdict(mine: Volume, other: Volume) -> str:
    """ "same", or how they differ."""
    n = mine.array.ndim - 1
    if other.array.ndim - 1 == n + 1:  # frames, or one slice
        slices = [_slice(other, k) for k in range(other.array.shape[1])]
        return min((verdict(mine, one) for one in slices), key=_worst)
    theirs, place = other.array, other.affine
    if theirs.shape[0] != mine.array.shape[0] or sorted(theirs.shape) != sorted(mine.array.shape):
        return f"shape {theirs.shape}"
    if mine.affine is None or place is None:  # without a place some turn pictures upside down
        return min((_values(mine.array, turned) for turned in (theirs, np.flip(theirs, -2))), key=_worst)
    turn = np.linalg.pinv(place[:3, :n]) @ mine.affine[:3, :n]  # their index steps for one of ours
    order = np.abs(turn).argmax(axis=0)
    if sorted(order) != list(range(n)) or np.abs(np.abs(turn[order, range(n)]) - 1).max() > 0.01:
        return "another grid"
    theirs = theirs.transpose(0, *(order + 1))
    place = place[:, [*order, n]].copy()
    for k in range(n):
        if turn[order[k], k] < 0:
            theirs = np.flip(theirs, k + 1)
            place[:3, n] += (theirs.shape[k + 1] - 1) * place[:3, k]
            place[:3, k] *= -1
    if theirs.shape != mine.array.shape:
        return f"shape {theirs.shape}"
    corners = np.array([(*corner, 1) for corner in product(*[(0, s - 1) for s in theirs.shape[1:]])], dtype=np.float64)
    apart = float(np.linalg.norm((corners @ (place - mine.affine).T)[:, :3], axis=1).max())
    return f"{apart:.3g} mm away" if apart > NEAR else _values(mine.array, theirs)


def _worst(told: str) -> tuple[bool, bool, str]:
    return (told != "same", "values" not in told, told)


def _slice(volume: Volume, k: int) -> Volume:
    """Index k of the first axis after the channels; a series in time stays where it is."""
    affine, n = volume.affine, volume.array.ndim - 1
    if affine is None:
        return Volume(volume.array[:, k], None)
    place = affine[:, 1:].copy()
    place[:, -1] += k * affine[:, 0] if n == 3 else 0
    return Volume(volume.array[:, k], place)


def _values(mine: Array, theirs: Array) -> str:
    apart = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
    allowed = 1e-6 * max(1.0, float(np.abs(mine).max()))
    return "same" if apart.max() <= allowed else f"{(apart > allowed).mean():.1%} of the values, by up to {apart.max():.4g}"


@dataclass(frozen=True)
class Compared:
    """One file beside one other reader."""

    name: str
    reader: str
    verdict: str

    def why(self) -> str:
        return next(
            (
                why
                for (name, who, told), why in WHY.items()
                if name in self.name and self.reader in who and told in self.verdict
            ),
            "",
        )


def files(data: Path | None) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """A name, a path, and the readers to compare with."""
    from pydicom.data import get_testdata_files

    nibabel: Any = peer("nibabel")
    for path in sorted(Path(p) for p in get_testdata_files("*.dcm")):
        yield f"pydicom/{path.name}", path, ("SimpleITK", "dcm2niix")
    folders = {p.parent for p in map(Path, get_testdata_files("*")) if p.parent.parent.name == "dicomdirtests"}
    for folder in sorted(folders):
        yield f"pydicom/{folder.name}", folder, ("SimpleITK", "dcm2niix")
    home = Path(nibabel.__file__).parent
    for path in sorted(p for where in ("tests", "nicom/tests", "freesurfer/tests") for p in (home / where / "data").glob("*")):
        if path.name.endswith((".nii", ".nii.gz", ".mgz", ".hdr")):
            yield f"nibabel/{path.name}", path, ("nibabel", "SimpleITK")
        elif path.name.endswith(".dcm"):
            yield f"nibabel/{path.name}", path, ("SimpleITK", "dcm2niix")
    for folder in sorted(data.glob("dicom_*")) if data else ():
        for leaf in sorted({p.parent for p in folder.rglob("*.dcm") if "Ref" not in p.parts}):
            if "multiframe" in folder.name:
                for path in sorted(leaf.glob("*.dcm")):
                    yield f"{folder.name}/{path.relative_to(folder)}", path, ("dcm2niix",)
            else:
                yield f"{folder.name}/{leaf.relative_to(folder)}", leaf, ("SimpleITK", "dcm2niix")


READERS: dict[str, Callable[[Path], list[Volume]]] = {"nibabel": by_nibabel, "SimpleITK": by_sitk, "dcm2niix": by_dcm2niix}


def readings(path: Path) -> tuple[list[Volume], str]:
    """All volumes of a file as we read them, and the code of the refusal where there is one."""
    choices = Choices(fix_tilt=False)
    try:
        volumes = io.peek(path, choices).volumes
        if volumes == 1:
            return [ours(path, choices)], ""
        by = "volume"
        try:
            ours(path, Choices(volume=0))
        except InputError:
            by = "frame"
        return [ours(path, Choices(**{by: k})) for k in range(volumes)], ""
    except InputError as error:
        return [], error.code


def compare(data: Path | None) -> list[Compared]:
    found = []
    for name, path, readers in files(data):
        mine, code = readings(path)
        for reader in readers:
            try:
                theirs = READERS[reader](path)
            except Exception as error:  # whatever they raise
                theirs, failed = [], type(error).__name__
            else:
                failed = "nothing"
            if not mine or not theirs:
                told = f"{f'we refuse: {code}' if code else 'we read'}; it {'reads' if theirs else f'fails: {failed}'}"
                found.append(Compared(name, reader, told))
                continue
            each = [min((verdict(one, other) for other in theirs), key=_worst) for one in mine]
            worst = max(each, key=_worst)
            several = f"{each.count('same')} of {len(each)} volumes are; else " if len(each) > 1 and worst != "same" else ""
            found.append(Compared(name, reader, several + worst))
    return found


def equality(data: Path | None) -> bool:
    """Prints the tables. Whether every difference is explained."""
    compared = compare(data)
    out = [
        "### The same voxels at the same places",
        "",
        "| reader | files | same | we refuse | it fails | both refuse | differ |",
    ]
    out.append("|---|---|---|---|---|---|---|")
    kinds = (
        lambda v: v == "same",
        lambda v: v.startswith("we refuse") and v.endswith("reads"),
        lambda v: v.startswith("we read;"),
        lambda v: v.startswith("we refuse") and not v.endswith("reads"),
    )
    for reader in READERS:
        told = [c.verdict for c in compared if c.reader == reader]
        numbers = [sum(map(kind, told)) for kind in kinds]
        out.append(f"| {reader} | {' | '.join(map(str, (len(told), *numbers, len(told) - sum(numbers))))} |")
    differing = [c for c in compared if not (kinds[0](c.verdict) or kinds[2](c.verdict) or kinds[3](c.verdict))]
    out += ["", "| file | reader | what differs | who is right, and why |", "|---|---|---|---|"]
    out += [f"| {c.name} | {c.reader} | {c.verdict} | {c.why() or '**unexplained**'} |" for c in differing]
    sys.stdout.write("\n".join(out) + "\n\n")
    return all(c.why() for c in differing)


def series(folder: Path, side: int) -> Path:
    """SLICES copies of the CT slice that comes with pydicom, at positions that move; side: how often it is repeated across."""
    import pydicom
    from pydicom.data import get_testdata_file
    from pydicom.uid import UID

    source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    plane = np.tile(source.pixel_array, (side, side))
    source.Rows, source.Columns = plane.shape
    source.PixelData = plane.tobytes()
    del source.DataSetTrailingPadding
    x, y, z = source.ImagePositionPatient
    stem = source.SOPInstanceUID[:40]
    folder.mkdir()
    for k in range(SLICES):
        source.ImagePositionPatient = [x, y, z + 1.25 * k]
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = UID(f"{stem}.{k + 1}")
        source.InstanceNumber = k + 1
        source.save_as(folder / f"{k:04d}.dcm")
    return folder


def speed() -> list[Table]:
    """One table for each size of slice."""
    monai = peer("monai.transforms")
    tables = []
    with tempfile.TemporaryDirectory() as root:
        for side in (1, 4):
            folder = series(Path(root) / str(side), side)
            calls: dict[str, Callable[[], object]] = {
                OURS: partial(io.read, folder),
                "SimpleITK": partial(by_sitk, folder),
                "MONAI": partial(monai.LoadImage(reader="PydicomReader", image_only=True), folder),
            }
            check = verdict(ours(folder, Choices()), by_sitk(folder)[0])
            timings = side_by_side(calls, SECONDS)
            ran = {
                OURS: "`hounsfield.read`, which checks positions, orientation and size of every slice",
                "SimpleITK": "`ImageSeriesReader` with `GetGDCMSeriesFileNames`, and its array",
                "MONAI": '`LoadImage(reader="PydicomReader")`',
            }
            about = (
                f"{SLICES} slices of {128 * side}×{128 * side} voxels, uncompressed, in the system's file cache; ours and "
                f"SimpleITK's: {check}."
            )
            rows = tuple(Row(name, t, ran[name]) for name, t in timings.items())
            tables.append(Table(f"A CT series of {SLICES} slices, {128 * side}×{128 * side}", about, "the whole series", rows))
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=("equality", "speed"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    peer("SimpleITK").ProcessObject.SetGlobalWarningDisplay(False)
    explained = given.only == "speed" or equality(given.data if given.data.is_dir() else None)
    for table in speed() if given.only != "equality" else ():
        sys.stdout.write("\n".join(table.lines()) + "\n")
    return 0 if explained else 1


if __name__ == "__main__":
    sys.exit(main())
