"""De-identification of one file, and the proof that nothing of the input is left: DICOM by PS3.15, NIfTI, PNG and JPEG."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from hounsfield.core.errors import InputError
from hounsfield.io.deidentify._table import EDITION
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Result
from hounsfield.io.deidentify.secret import Secret
from hounsfield.io.sniff import describe

STANDARD = f"DICOM PS3.15, table E.1-1, edition {EDITION}"


def deidentify(source: Path, relative: PurePath, target: Path, profile: Profile, secret: Secret) -> Result:
    """Writes the file `source` to `target` without what identifies a person. relative: its path below the input's folder, of
    which the output's name is made where the file has no ids of its own.

    Raises InputError EMPTY_FILE, UNKNOWN_FORMAT, NOT_DEIDENTIFIED (what cannot be cleaned safely) and what reading raises;
    none of their texts holds a value of the file. `target` may then exist in part.
    """
    from hounsfield import io
    from hounsfield.io.deidentify import _dicom, _nifti, _raster

    head = io.head(source)
    kind = io.content_member(source, head)
    if kind == "dicom":
        return _dicom.deidentify(source, target, profile, secret)
    if kind in ("nifti", "raster") and profile.clean_pixels:
        raise InputError(
            "NOT_DEIDENTIFIED",
            source,
            found="a format in which --clean-pixels blackens nothing",
            expected="DICOM",
            fix="de-identify DICOM by itself",
        )
    if kind == "nifti":
        return _nifti.deidentify(source, relative, target, secret)
    if kind == "raster":
        return _raster.deidentify(source, relative, target, secret)
    if kind is not None:
        raise InputError(
            "NOT_DEIDENTIFIED",
            source,
            found=f"the format {kind}, which has no known place for remarks",
            expected="DICOM, NIfTI, PNG or JPEG",
            fix="convert it with hounsfield image FILE --to FILE.nii.gz",
        )
    if not head:
        raise InputError("EMPTY_FILE", source, found="0 bytes", expected="an image", fix="leave it out")
    looks = describe(head)
    found = "unknown bytes" if looks.startswith("unknown bytes") else looks  # which bytes: they may be a name
    raise InputError("UNKNOWN_FORMAT", source, found=found, expected="an image", fix="leave it out")


def holds(path: Path, kind: str, own: Identifiers, shared: Identifiers) -> bool:
    """Whether `path`, of the kind that `Result` told, still holds one of the identifiers: of its own input, or of those that
    all inputs share (`Identifiers.shared_by`)."""
    from hounsfield.io.deidentify import _dicom, _nifti, _raster

    search = {"dicom": _dicom.holds, "nifti": _nifti.holds, "raster": _raster.holds}[kind]
    return search(path, own, shared)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of libraries meanwhile, as they may quote the values of a file."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        before, config.logger.disabled = config.logger.disabled, True
        try:
            yield
        finally:
            config.logger.disabled = before
