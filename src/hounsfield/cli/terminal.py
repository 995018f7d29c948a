"""When the command began, and what it says: lines and bars, one JSON document, tables, paths."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # budgets count from here


def console() -> Any:
    from hounsfield.workflow.console import terminal

    return terminal()


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")


def render(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def tell(written: list[Path], as_json: bool) -> None:
    """The paths of what was written."""
    if as_json:
        print_json({"schema": 1, "written": [str(path) for path in written]})
    else:
        sys.stdout.write("".join(f"{path}\n" for path in written))
