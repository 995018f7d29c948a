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
    from hounsfield.io import list_series as list_series
    from hounsfield.io import read as read
    from hounsfield.io import write as write
    from hounsfield.io.deidentify.profile import Profile as Profile
    from hounsfield.io.formats import Choices as Choices
    from hounsfield.workflow.deidentify import deidentify as deidentify
    from hounsfield.workflow.evaluate import evaluate as evaluate
    from hounsfield.workflow.generate import generate as generate
    from hounsfield.workflow.inspect import inspect as inspect
    from hounsfield.workflow.predict import Predictor as Predictor
    from hounsfield.workflow.predict import predict as predict
    from hounsfield.workflow.propose import propose as propose
    from hounsfield.workflow.ready import Options as Options
    from hounsfield.workflow.report import report as report
    from hounsfield.workflow.restore import restore as restore
    from hounsfield.workflow.run import Run as Run
    from hounsfield.workflow.scaling import scaling as scaling
    from hounsfield.workflow.train import train as train

_WHERE = {
    "Boxes": "hounsfield.core.boxes",
    "Choices": "hounsfield.io.formats",
    "Geometry": "hounsfield.core.geometry",
    "Image": "hounsfield.core.image",
    "Options": "hounsfield.workflow.ready",
    "Predictor": "hounsfield.workflow.predict",
    "Profile": "hounsfield.io.deidentify.profile",
    "Run": "hounsfield.workflow.run",
    "deidentify": "hounsfield.workflow.deidentify",
    "evaluate": "hounsfield.workflow.evaluate",
    "generate": "hounsfield.workflow.generate",
    "inspect": "hounsfield.workflow.inspect",
    "list_series": "hounsfield.io",
    "predict": "hounsfield.workflow.predict",
    "propose": "hounsfield.workflow.propose",
    "read": "hounsfield.io",
    "report": "hounsfield.workflow.report",
    "restore": "hounsfield.workflow.restore",
    "scaling": "hounsfield.workflow.scaling",
    "train": "hounsfield.workflow.train",
    "write": "hounsfield.io",
}

__all__ = [
    "Boxes",
    "Choices",
    "Geometry",
    "Image",
    "Options",
    "Predictor",
    "Profile",
    "Run",
    "__version__",
    "deidentify",
    "evaluate",
    "generate",
    "inspect",
    "list_series",
    "predict",
    "propose",
    "read",
    "report",
    "restore",
    "scaling",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hounsfield' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
