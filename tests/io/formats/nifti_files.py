"""NIfTI files as nibabel writes them, with header fields changed as damage or another program would."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.formats import Choices

nib: Any = importlib.import_module("nibabel")  # untyped

Array = npt.NDArray[Any]
OBLIQUE = np.array([[-0.7, 0.1, 0.3, 12.0], [0.05, 1.1, -0.4, -80.0], [0.2, 0.2, 2.5, 33.0], [0, 0, 0, 1.0]])


def save(path: Path, array: Array, affine: Array = OBLIQUE, **fields: Any) -> Path:
    """array: in the file's own order (w, h, d, ...). fields: header fields, set last."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return patch(path, **fields) if fields else path


def patch(path: Path, **fields: Any) -> Path:
    """Header fields changed in place, as damage or another program would; "pixdim[2]" names one element."""
    packed = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        key, _, index = name.partition("_at_")
        if index:
            header[key][int(index)] = value
        else:
            header[key] = value
    content = header.binaryblock + content[348:]
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{code} {path}: ")
    return line


def with_qform(path: Path, sform: Array, qform: Array, array: Array | None = None) -> Path:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8) if array is None else array, sform)
    image.set_qform(qform, code=1)
    image.set_sform(sform, code=2)
    nib.save(image, path)
    return path


STRAIGHT = np.diag([1.0, 2.0, 3.0, 1.0])
