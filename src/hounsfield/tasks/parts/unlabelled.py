"""What tasks ask of images that teach without labels."""

from __future__ import annotations

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint


def refuse_constant(fingerprint: Fingerprint) -> None:
    """Raises InputError TOO_FEW where no image shows anything."""
    if fingerprint.all_constant:
        raise InputError(
            "TOO_FEW",
            "images",
            found=f"{fingerprint.cases} images, in each of which all voxels are equal",
            expected="images that show something",
            fix="check how they were exported",
        )
