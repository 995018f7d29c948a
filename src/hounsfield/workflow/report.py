"""The report of a run: one HTML file without network or scripts, to send to a colleague."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import hounsfield
from hounsfield.metrics.bootstrap import Interval
from hounsfield.workflow.charts import curves, read_log
from hounsfield.workflow.console import SILENT, Console, first_few
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.evaluate import Evaluation, stored
from hounsfield.workflow.pictures import gallery
from hounsfield.workflow.run import Run, build, read_json, write_text
from hounsfield.workflow.tables import PARTS, decisions, section, title


def report(run: Run | str | Path, *, device: str = "auto", console: Console = SILENT) -> Path:
    """Write `report.html` into the run, from what the run holds and a few of its cases predicted anew for the pictures.

    Where data or weights are gone the pictures are left out, and the report says why. Raises InputError NOT_A_RUN, BAD_PLAN,
    NOT_FOUND (a record of the run is missing), BAD_OPTION (device).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    opened = run if isinstance(run, Run) else Run(run)
    choose_device(device)  # a wrong name is an error, not a report without pictures
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"by": _by, "inline": Markup, "few": first_few, "bounds": _bounds, "count": _count}
    html = page.get_template("report.html.jinja").render(_content(opened, device, console))
    path = opened.root / "report.html"
    write_text(path, html)
    return path


def _content(run: Run, device: str, console: Console) -> dict[str, Any]:
    """What the page shows."""
    plan, record, evaluations = run.plan, run.record, stored(run)
    own = [e for e in evaluations if e.part in PARTS]
    shown = own[0] if own else None
    ends = [log[-1] for member in run.members if (log := read_log(member))]
    return {
        "version": hounsfield.__version__,
        "today": f"{date.today():%d %B %Y}".lstrip("0"),
        "run": run.root.resolve().name,
        "folder": Path(record["data"]).name,
        "plan": plan,
        "record": record,
        "split": run.split,
        "facts": run.fingerprint,
        "parts": {part: name for part, name in PARTS.items() if record["cases"].get(part)},
        "weights": sum(p.numel() for p in build(plan).parameters()),
        "members": len(run.members),
        "ended": ends[0] if ends else None,
        "sections": [section(e, plan, run.solver.metrics()) for e in evaluations],
        "charts": curves(run, title(shown.headline) if shown else "Figure", _final(evaluations)),
        "gallery": gallery(run, shown, device, console),
        "decisions": decisions(plan),
        "environment": read_json(run.root / "environment.json"),
        "command": _command(run),
    }


def _final(evaluations: Iterable[Evaluation]) -> float:
    """The headline figure of the whole validation part; NaN where there is none."""
    return next((e.metrics[e.headline].value for e in evaluations if e.part == "val"), math.nan)


def _command(run: Run) -> str:
    """What trains the same once more, with names of folders instead of paths."""
    record = run.record
    words = ["hounsfield", "train", Path(record["data"]).name, "--out", "NEW", "--plan", f"{run.root.resolve().name}/plan.json"]
    words += ["--seed", str(run.plan.seed)]
    asked = {"--test": record.get("test"), "--leave-out": run.split.leave_out, "--patient-regex": record["patient_regex"]}
    words += [word for option, value in asked.items() if value for word in (option, str(value))]
    for name, value in record.get("choices", {}).items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def _by(values: Iterable[float], digits: int = 0) -> str:
    """ "96 × 96"."""
    return " × ".join(f"{v:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{v:.0f}" for v in values)


def _bounds(interval: Interval) -> str:
    return f"95% interval {interval.low:.3f} to {interval.high:.3f}" if interval.known else "no interval"


def _count(number: int, noun: str) -> str:
    """ "1 case", "2,000 cases"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
