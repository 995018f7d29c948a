"""Where the time of a run goes: its stages, in seconds since the command began (`timeline.json`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hounsfield.workflow.run import Run, read_json, write_json

FILE = "timeline.json"


class Stages:
    """The stages of one command. started: monotonic time when it began. budget: seconds allowed, None for no limit."""

    def __init__(self, started: float, budget: float | None = None) -> None:
        self.started = started
        self.budget = budget
        self.rows: list[dict[str, Any]] = []
        self.folder: Path | None = None

    def keep_in(self, run: Run, *, go_on: bool = False) -> None:
        """Write into `run` from now on; `go_on`: after the stages that it went through before it was interrupted."""
        self.folder = run.root
        path = run.root / FILE
        if go_on and path.exists():
            before = read_json(path)
            self.budget = before["budget"]
            ended = max((row["end"] for row in before["stages"]), default=0.0)
            self.started -= ended
            now = [{**row, "start": row["start"] + ended, "end": row["end"] + ended} for row in self.rows]
            self.rows = [*before["stages"], *now]
        self._write()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block as a stage of this name."""
        start = time.monotonic() - self.started
        try:
            yield
        finally:
            self.rows.append({"name": name, "start": round(start, 2), "end": round(time.monotonic() - self.started, 2)})
            self._write()

    def _write(self) -> None:
        if self.folder is not None:
            write_json(self.folder / FILE, {"budget": self.budget, "stages": self.rows})
