"""One of the processes that `launch` starts: a training as its standard input asks for it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

from hounsfield.io.formats import Choices
from hounsfield.workflow.console import SILENT, terminal
from hounsfield.workflow.ready import Options
from hounsfield.workflow.train import train


def work() -> None:
    """Ends with the exit code of what went wrong, which is for `launch` to tell."""
    if not os.environ.get("HOUNSFIELD_DEBUG"):
        warnings.simplefilter("ignore")
    asked = json.load(sys.stdin)
    given = asked["options"]
    plan = None if given["plan"] is None else Path(given["plan"])
    options = Options(**{**given, "plan": plan, "choices": Choices(**given["choices"])})
    train(asked["data"], asked["out"], options, **asked["how"], console=SILENT if asked["quiet"] else terminal())
