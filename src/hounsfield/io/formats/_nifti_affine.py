"""Which affine a NIfTI header means, the choice between sform and qform, and units; and the way back into a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.image import Spaces
from hounsfield.io.formats import Choices

Floats = npt.NDArray[np.float64]

# sform and qform have one spacing when no side differs by more than this part.
SPACING_TOLERANCE = 1e-3
# They are one placement when no corner lies further apart than this part of a voxel.
PLACEMENT_TOLERANCE = 1e-2
# NIfTI-1 standard, xyzt_units: mm of one unit. 0 (unknown) is taken as mm, as every reader does.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# A written affine is what was meant where it is that to this part of a voxel.
_WRITTEN = 1e-3


def unit_of(header: Any) -> float:
    """Millimetres of the header's spatial unit."""
    return _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)


def check_spacing(path: Path, header: Any, ndim: int) -> None:
    """Raises InputError BAD_SPACING for a pixdim of the spatial axes that is not a positive number."""
    for k in range(1, ndim + 1):
        value = float(header["pixdim"][k])
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                "BAD_SPACING",
                path,
                found=f"pixdim[{k}] = {value:g}",
                expected="a positive number",
                fix="write the true spacing into the header",
            )


def affine_of(path: Path, header: Any, shape: tuple[int, ...], choices: Choices) -> tuple[Floats, tuple[str, ...]]:
    """The affine (4, 4) from (x, y, z) to R, A, S in mm, and notes. shape: voxels along x, y, z.

    sform where there is one, else qform, else pixdim. Where both are there and differ by a rotation or shift, sform, with
    a note; where they differ in spacing or handedness, `choices.affine` decides.
    Raises InputError AFFINE_CONFLICT, BAD_AFFINE, BAD_OPTION.
    """
    if choices.affine not in (None, "sform", "qform"):
        raise InputError(
            "BAD_OPTION", path, found=f"--affine {choices.affine}", expected="sform or qform", fix="choose one of the two"
        )
    forms = _forms(header)
    notes: tuple[str, ...] = ()
    if not forms:
        affine = np.asarray(header.get_base_affine(), dtype=np.float64)
        notes = ("no sform or qform: spacing from pixdim, orientation assumed (left-handed, centred)",)
    elif len(forms) == 2 and choices.affine is not None:
        affine = forms[choices.affine]
    else:
        affine = next(iter(forms.values()))
        _check(path, forms, affine, shape)
        if len(forms) == 2:
            notes = _compare(path, forms["sform"], forms["qform"], shape)
    _check(path, forms, affine, shape)
    unit = unit_of(header)
    affine = affine.copy()
    affine[:3] *= unit
    return affine, notes


def spaces_of(header: Any, affine: Floats, choices: Choices) -> Spaces:
    """What a header says of the spaces of its voxels. affine: as `affine_of` gives it, by the same choices."""
    forms = _forms(header)
    codes = {name: int(header[f"{name}_code"]) if name in forms else 0 for name in ("sform", "qform")}
    # As `affine_of` takes it: the one there is, the one that was chosen, else the sform.
    qform = "sform" not in forms or (len(forms) == 2 and choices.affine == "qform")
    taken: Literal["sform", "qform"] = "qform" if qform else "sform"
    other = "sform" if qform else "qform"
    apart = None
    if len(forms) == 2 and choices.affine is None and np.linalg.matrix_rank(affine) == 4:
        there = forms[other].copy()
        there[:3] *= unit_of(header)
        apart = tuple(tuple(float(value) for value in row) for row in there @ np.linalg.inv(affine))
    else:
        codes[other] = 0  # there is none, or who chose one has said that it is wrong
    return Spaces(codes["sform"], codes["qform"], int(header["xyzt_units"]), taken, apart)


def set_spaces(header: Any, affine: Floats, spaces: Spaces, ndim: int) -> None:
    """Write where the voxels of the header's shape are. affine: (4, 4) in mm, of the space that was taken; ndim: of the image.

    A qform cannot hold shear: where it would have to, there is an sform alone. Without either code the spacing alone must say
    the same; where it does not, there is an sform.
    """
    header["xyzt_units"] = spaces.units
    scale = np.diag([1 / unit_of(header)] * 3 + [1.0])
    here = scale @ affine
    there = here if spaces.apart is None else scale @ np.array(spaces.apart) @ affine
    sform, qform = (here, there) if spaces.taken == "sform" else (there, here)
    header.set_qform(qform, code=0, strip_shears=True)
    header.set_sform(sform, code=0)
    header["qform_code"], header["sform_code"] = spaces.qform, spaces.sform  # also codes that nibabel does not know
    columns = [*range(ndim), 3]
    if spaces.qform and not _same(header.get_qform(), qform):
        header["qform_code"] = 0
        header["sform_code"] = spaces.sform or spaces.qform
    elif not (spaces.sform or spaces.qform) and not _same(header.get_base_affine()[:, columns], here[:, columns]):
        header["sform_code"] = 1


def _same(found: Floats, meant: Floats) -> bool:
    least = np.linalg.norm(meant[:3, :-1], axis=0).min()
    return bool(np.allclose(found, meant, rtol=0, atol=_WRITTEN * least))


def _forms(header: Any) -> dict[str, Floats]:
    """The affines that have a code, in the header's units."""
    forms = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if int(header["qform_code"]) > 0:
        forms["qform"] = _qform(header)
    return forms


def _qform(header: Any) -> Floats:
    """The qform's affine; a qfac of 0 means 1 (NIfTI-1 standard, method 2). NaN where the quaternion is none."""
    header = header.copy()
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except ValueError:
        return np.full((4, 4), np.nan)


def _check(path: Path, forms: dict[str, Floats], affine: Floats, shape: tuple[int, ...]) -> None:
    """Raises InputError BAD_AFFINE where the axes that have voxels do not span a space."""
    n = 3 if shape[2] > 1 else 2
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :n]) < n:
        told = "; ".join(f"{name} {_text(form)}" for name, form in forms.items())
        raise InputError(
            "BAD_AFFINE",
            path,
            found=told or f"pixdim gives {_text(affine)}",
            expected="finite, linearly independent axes",
            fix="choose the other with --affine sform|qform, or repair the header" if len(forms) == 2 else "repair the header",
        )


def _compare(path: Path, sform: Floats, qform: Floats, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Notes on a rigid difference. Raises InputError AFFINE_CONFLICT on one in spacing or handedness."""
    n = 3 if shape[2] > 1 else 2
    spacings = [np.linalg.norm(form[:3, :n], axis=0) for form in (sform, qform)]
    same_spacing = np.allclose(spacings[0], spacings[1], rtol=SPACING_TOLERANCE, atol=0)
    # A single slice has no third axis, so no handedness.
    same_hand = n == 2 or np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) > 0
    if not (same_spacing and same_hand and np.isfinite(qform).all()):
        raise InputError(
            "AFFINE_CONFLICT",
            path,
            found=f"sform {_text(sform)}; qform {_text(qform)}",
            expected="one spacing and handedness",
            fix="choose with --affine sform|qform",
        )
    corners = np.stack(np.meshgrid(*[(0, s - 1) for s in shape], indexing="ij"), -1).reshape(-1, 3)
    apart = np.linalg.norm(corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3], axis=1).max()
    if apart <= PLACEMENT_TOLERANCE * spacings[0].min():
        return ()
    return (f"sform and qform place the voxels up to {apart:.3g} mm apart: sform was taken",)


def _text(affine: Floats) -> str:
    return str(np.round(affine[:3], 4).tolist()).replace(" ", "")
