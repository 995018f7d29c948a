"""Hounsfield: from a folder of medical images to a trained, measured, explained and deployable model.

Names are loaded when first used, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hounsfield.core.boxes import Boxes as Boxes
    from hounsfield.core.geometry import Geometry as Geometry
    from hounsfield.core.image import Image as Image
    from hounsfield.io import read as read

_WHERE = {
    "Boxes": "hounsfield.core.boxes",
    "Geometry": "hounsfield.core.geometry",
    "Image": "hounsfield.core.image",
    "read": "hounsfield.io",
}

__all__ = ["Boxes", "Geometry", "Image", "__version__", "read"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hounsfield' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
