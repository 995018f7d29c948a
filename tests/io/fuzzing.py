"""Damages small files of every format and reads them in a second process, whose memory and time are limited.

What must come out is an image or a typed error, each time. Run as a script it is that process: a path a line on the standard
input, and an outcome a line on the standard output.
"""

from __future__ import annotations

import gzip
import json
import os
import select
import shutil
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
MEMORY = 3 << 30  # address space of the process in bytes, of which libraries take a third
CLAIM_GIB = "0.25"  # HOUNSFIELD_MAX_GIB: a file that claims more is refused, so nothing here may run out of memory
SECONDS = 20.0  # for one file

DICOM = (
    "CT_small.dcm",
    "ExplVR_BigEndNoMeta.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm",
    "UN_sequence.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "nested_priv_SQ.dcm",
    "rtdose.dcm",
    "test-SR.dcm",
)

# Files that hold no image, or more than one: an error even when intact.
NO_IMAGE = ("UN_sequence", "nested_priv_SQ", "rtdose", "test-SR", "DICOMDIR", "enhanced", "rle_2frame", "grey.gif", "NoMeta")


def seeds(folder: Path) -> list[Path]:
    """One small intact file of each kind, below `folder`; a file that needs others lies beside them in a folder of its own."""
    from PIL import Image as Pillow
    from pydicom.data import get_testdata_file

    from hounsfield import io
    from hounsfield.core.geometry import Geometry
    from hounsfield.core.image import Image

    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0] * (1, 2, 3)
    place = Geometry((5, 6, 7), np.vstack([np.column_stack([turn, (1, 2, 3)]), (0, 0, 0, 1)]))
    volume = Image(draw.integers(0, 300, (1, 5, 6, 7)).astype(np.int16), place)
    vectors = Image(draw.normal(size=(2, 5, 6, 7)).astype(np.float32), place)
    found = []
    for ending in (".nii", ".nii.gz", ".npy", ".npz", ".nrrd", ".mha"):
        for name, image in (("volume", volume), ("vectors", vectors)):
            if (name, ending) != ("vectors", ".npy"):
                io.write(image, folder / f"{name}{ending}")
                found.append(folder / f"{name}{ending}")
    found += _headers_with_data(folder, volume.array[0])
    for mode in ("L", "P", "RGB", "RGBA", "I;16", "1"):
        picture = Pillow.fromarray(draw.integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(mode.replace(";16", ""))
        picture = Pillow.fromarray(draw.integers(0, 60000, (20, 30), dtype=np.uint16)) if mode == "I;16" else picture
        found.append(folder / f"{mode.replace(';', '')}.png")
        picture.save(found[-1])
        found.append(folder / f"{mode.replace(';', '')}.tif")
        picture.save(found[-1], compression="tiff_adobe_deflate" if mode in ("L", "RGB") else "raw")
    grey = Pillow.fromarray(draw.integers(0, 255, (20, 30), dtype=np.uint8))
    for ending in (".jpg", ".bmp", ".gif"):
        found.append(folder / f"grey{ending}")
        grey.save(found[-1])
    grey.save(found[-1], save_all=True, append_images=[grey.rotate(9)])
    for name in DICOM:
        source = get_testdata_file(name, download=False)
        if source is not None:
            found.append(Path(shutil.copy(str(source), folder)))
    found.append(_enhanced(folder))
    found.append(_archive(folder))
    disc = Path(str(get_testdata_file("CT_small.dcm"))).parent / "dicomdirtests"
    shutil.copytree(disc, folder / "disc", ignore=shutil.ignore_patterns("DICOMDIR-*"))
    return [*found, folder / "disc" / "DICOMDIR"]


def _headers_with_data(folder: Path, array: np.ndarray[Any, Any]) -> list[Path]:
    """Formats that this project does not write, or writes otherwise."""
    import nibabel

    nib: Any = nibabel
    nib.save(nib.MGHImage(array.T, np.diag([1.0, 2, 3, 1])), folder / "a.mgz")
    nib.save(nib.MGHImage(array.T, np.diag([1.0, 2, 3, 1])), folder / "a.mgh")
    for name, kind in (("pair", nib.Nifti1Pair), ("analyze", nib.AnalyzeImage)):
        (folder / name).mkdir()
        nib.save(kind(array.T, np.diag([1.0, 2, 3, 1])), folder / name / "a.img")
    sizes = " ".join(str(n) for n in array.shape[::-1])
    (folder / "beside").mkdir()
    (folder / "beside" / "a.raw").write_bytes(array.tobytes())
    (folder / "beside" / "a.nhdr").write_text(
        f"NRRD0005\ntype: short\ndimension: 3\nsizes: {sizes}\nspace: RAS\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
        "space origin: (1,2,3)\nkinds: domain domain domain\nendian: little\nencoding: raw\ndata file: a.raw\n"
    )
    header = "ObjectType = Image\nNDims = 3\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 2 3\n"
    header += f"DimSize = {sizes}\n"
    (folder / "beside" / "a.mhd").write_text(f"{header}ElementType = MET_SHORT\nElementDataFile = a.raw\n")
    packed = f"{header}CompressedData = True\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (folder / "packed.mha").write_bytes(packed.encode() + zlib.compress(array.tobytes()))
    names = ("a.mgz", "a.mgh", "pair/a.hdr", "pair/a.img", "analyze/a.hdr", "beside/a.nhdr", "beside/a.mhd", "packed.mha")
    return [folder / name for name in names]


def _enhanced(folder: Path) -> Path:
    """Six frames with functional groups, two volumes of three slices."""
    import pydicom
    from pydicom.data import get_testdata_file

    file = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    groups = []
    for k in range(6):
        position, content, group = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, 3 * (k % 3)]
        content.DimensionIndexValues = [k // 3 + 1, k % 3 + 1]
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    orientation, measures, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    file.Rows, file.Columns, file.NumberOfFrames = 8, 8, 6
    file.PixelData = bytes(range(128)) * 6
    file.PerFrameFunctionalGroupsSequence, file.SharedFunctionalGroupsSequence = groups, [shared]
    file.save_as(folder / "enhanced.dcm")
    return folder / "enhanced.dcm"


def _archive(folder: Path) -> Path:
    """Three slices in a ZIP archive."""
    import pydicom
    from pydicom.data import get_testdata_file

    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(3):
            file = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
            file.ImagePositionPatient = [0, 0, 3 * k]
            file.SOPInstanceUID += f".{k}"
            file.save_as(folder / "slice")
            archive.write(folder / "slice", f"scan/{k}.dcm")
    (folder / "slice").unlink()
    return folder / "series.zip"


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """The file with some bytes changed, cut out, put in, said twice or lost at its end; of gzip at times what is inside it."""
    if content[:2] == b"\x1f\x8b" and draw.random() < 0.6:
        return gzip.compress(damaged(gzip.decompress(content), draw), 1, mtime=0)
    out = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        _change(out, draw)
    return bytes(out)


def _change(out: bytearray, draw: np.random.Generator) -> None:
    # Headers are where it hurts.
    reach = max(1, min(len(out), int(draw.choice([64, 400, 2000, len(out) + 1]))))
    at = int(draw.integers(0, reach))
    length = int(draw.choice([1, 2, 4, 8, 64]))
    kind = int(draw.integers(0, 10))
    if kind < 3:
        out[at : at + 1] = bytes([int(draw.choice([0, 1, 127, 128, 255, int(draw.integers(256))]))])
    elif kind < 5:
        value = int(draw.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
        width = int(draw.choice([2, 4, 8]))
        out[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little" if draw.random() < 0.5 else "big")
    elif kind < 6:  # numbers of a text header
        digits = [k for k, byte in enumerate(out[:2000]) if 48 <= byte <= 57]
        if digits:
            at = digits[int(draw.integers(len(digits)))]
            out[at : at + 1] = [b"9" * 30, b"-1", b"0", b"nan", b"1e300", b"9", b"inf"][int(draw.integers(7))]
    elif kind < 7:
        out[at : at + length] = draw.bytes(length)
    elif kind < 8:
        del out[at : at + length]
    elif kind < 9:
        out[at:at] = out[at : at + length]
    elif draw.random() < 0.5:
        del out[int(draw.integers(0, len(out) + 1)) :]


@dataclass
class Reader:
    """The second process; a new one after each that ended or hung."""

    command: Sequence[str] = (sys.executable, __file__)
    seconds: float = SECONDS
    process: subprocess.Popen[str] | None = None

    def __call__(self, path: Path) -> str:
        """ "an image", a code, or "fault: ..."."""
        if self.process is None:
            more = {
                "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
                "HOUNSFIELD_MAX_GIB": CLAIM_GIB,
                "OPENBLAS_NUM_THREADS": "1",
            }
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **more},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(str(path))}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.seconds)[0]:
            self.close()
            return f"fault: not done in {self.seconds:g} s"
        line = self.process.stdout.readline()
        if not line:
            ended = self.process.wait()
            self.close()
            return f"fault: the process ended with {ended}"
        return line.strip()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@dataclass
class Result:
    """outcomes: how often each. faults: what was neither an image nor a typed error, with the file that is kept for each."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[Path, str]] = field(default_factory=list)


def run(folder: Path, mutations: int, seed: int = 0, progress: Callable[[int], None] | None = None) -> Result:
    """`mutations` damaged files, each kind in turn, in `folder`, where only those that found a fault stay."""
    (folder / "seeds").mkdir(parents=True)
    files = seeds(folder / "seeds")
    result, read = Result(), Reader()
    try:
        for path in files:
            outcome = read(path)
            known = any(part in path.name for part in NO_IMAGE)
            assert outcome == "an image" or known, f"{path.name} is not intact: {outcome}"
        for k in range(mutations):
            draw = np.random.default_rng([seed, k])
            path = files[k % len(files)]
            content = path.read_bytes()
            path.write_bytes(damaged(content, draw))
            outcome = read(path)
            result.outcomes[outcome if not outcome.startswith("fault") else "fault"] += 1
            if outcome.startswith("fault"):
                kept = Path(shutil.copy(path, folder / f"{k}-{path.name}"))
                result.faults.append((kept, f"{path.relative_to(folder / 'seeds')}: {outcome}"))
            path.write_bytes(content)
            if progress:
                progress(k + 1)
    finally:
        read.close()
    return result


def attempt(path: Path) -> str:
    """What happens when the file is looked at, read and listed."""
    import traceback

    from hounsfield import io
    from hounsfield.core.errors import HounsfieldError

    outcome = "an image"
    for look in (io.peek, io.list_series, io.read):
        try:
            found: Any = look(path)
        except HounsfieldError as error:
            outcome = error.code
            if "\n" in str(error) or not str(error).startswith(f"{error.code} ") or error.code == "OUT_OF_MEMORY":
                return f"fault: {error}".replace("\n", " ")
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"fault: {type(error).__name__} in {look.__name__}, {Path(where.filename).name}:{where.lineno}"
        else:
            if look is io.read and (found.array.shape[1:] != found.geometry.shape or not np.isfinite(found.array).all()):
                return "fault: an image that is none"
    return outcome


def serve() -> None:
    """The second process."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        sys.stdout.write(f"{attempt(Path(json.loads(line)))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
