"""The demo: the whole path on embedded phantoms, or on the user's own folder."""

from __future__ import annotations

import time
from pathlib import Path

from hounsfield.data.phantoms import write_dataset
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, refuse_existing
from hounsfield.workflow.train import train

CASES = 120


def demo(
    out: str | Path,
    *,
    data: Path | None = None,
    budget: str = "2m",
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    console: Console = SILENT,
    started: float | None = None,
) -> Run:
    """A run in `out`; the phantoms are written beside it, into `<out>-data`, and can be looked at."""
    started = time.monotonic() if started is None else started
    refuse_existing(out, overwrite)
    if data is None:
        data = Path(f"{out}-data")
        if not data.exists():
            console.say(f"drawing {CASES} phantoms into {data}")
            write_dataset(data, "segmentation", ndim=2, n=CASES, seed=seed)
    options = Options(budget=budget, seed=seed, test=0.2, device=device)
    return train(data, out, options, overwrite=overwrite, console=console, started=started)
