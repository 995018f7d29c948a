"""Analyze 7.5, the ancestor of NIfTI: a .hdr/.img pair that does not say where left is, with SPM's additions."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

# Bits of a voxel by data type, SPM's unsigned ones included.
_BITS = {1: 1, 2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 130: 8, 132: 16, 136: 32}
_SIZE = 348
# Size of the header, number of axes, data type and bits: how each is packed, and where.
_FIELDS = (("i", 0), ("h", 40), ("h", 70), ("h", 72))


def recognises(head: bytes) -> bool:
    """Its size in either byte order, 1 to 7 axes, and a data type with its bits: there is no magic."""
    if len(head) < _SIZE:
        return False
    for order in "<>":
        size, axes, code, bits = (struct.unpack_from(f"{order}{kind}", head, at)[0] for kind, at in _FIELDS)
        if size == _SIZE and 1 <= axes <= 7 and bits in (0, _BITS.get(code)):
            return True
    return False


def affine_of(path: Path, header: Any) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """The affine (4, 4) from (x, y, z) to R, A, S in mm as nibabel and SPM take it, and notes that say so. header: nibabel's.

    Raises InputError BAD_AFFINE.
    """
    header = header.copy()
    for k in range(int(header["dim"][0]) + 1, 4):  # what flat files leave open
        header["dim"][k] = 1
    if header["dim"][3] == 1:
        header["pixdim"][3] = 1
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(
            "BAD_AFFINE", path, found="pixdim without an extent", expected="positive numbers", fix="repair the header"
        )
    notes = ["Analyze 7.5 does not say where left is: orientation assumed (x to the left, y to the front, z up)"]
    stem = path.name[: path.name.lower().rindex(".hdr")]
    if path.with_name(f"{stem}.mat").is_file():
        notes.append("the .mat file beside it, which may place it, was not read")
    unscaled, scaled = (float(header[f"{kind}max"]) - float(header[f"{kind}min"]) for kind in ("gl", "cal_"))
    if unscaled and scaled and header["scl_slope"] == 0:
        notes.append("cal_max and cal_min were not taken as a scale")
    return affine, tuple(notes)
