"""The report of a run: one HTML file without network or scripts, to send to a colleague."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import hounsfield
from hounsfield.core.finding import Finding
from hounsfield.core.plan import Plan
from hounsfield.workflow.charts import Log, curves, read_logs
from hounsfield.workflow.cohort import class_lines, spreads
from hounsfield.workflow.confusions import MANY
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.cover import in_order, measured, millions, trained
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.evaluate import Evaluation, stored
from hounsfield.workflow.page import render
from hounsfield.workflow.pictures import gallery
from hounsfield.workflow.run import Run, build, read_json, write_text
from hounsfield.workflow.tables import PARTS, decisions, section, title
from hounsfield.workflow.timeline import budget, seconds_text, steps


def report(run: Run | str | Path, *, device: str = "auto", console: Console = SILENT, seconds: float = math.inf) -> Path:
    """Write `report.html` into the run, from what the run holds and a few of its cases predicted anew for the pictures.

    seconds: that the pictures may take, the greatest part of the work; those that would overstep it are left out.
    Where data or weights are gone the pictures are left out, and the report says why. Raises InputError NOT_A_RUN, BAD_PLAN,
    NOT_FOUND (a record of the run is missing), BAD_OPTION (device).
    """
    opened = run if isinstance(run, Run) else Run(run)
    choose_device(device)  # a wrong name is an error, not a report without pictures
    html = render("report.html.jinja", _content(opened, device, console, seconds))
    path = opened.root / "report.html"
    write_text(path, html)
    return path


def _content(run: Run, device: str, console: Console, seconds: float) -> dict[str, Any]:
    """What the page shows."""
    plan, record, evaluations, logs = run.plan, run.record, in_order(stored(run)), read_logs(run)
    own = [e for e in evaluations if e.part in PARTS]
    shown = own[0] if own else None
    weights, folds = _weights(plan), run.split.folds or ()
    parts = {part: name for part, name in PARTS.items() if record["cases"].get(part)}
    return {
        "version": hounsfield.__version__,
        "today": f"{date.today():%d %B %Y}".lstrip("0"),
        "run": run.root.resolve().name,
        "folder": Path(record["data"]).name,
        "lead": (trained(run, weights, logs), measured(shown, record, plan)),
        "plan": plan,
        "record": record,
        "split": run.split,
        "folds": [len(ids) for ids in folds],
        "findings": [Finding.model_validate(finding) for finding in record.get("findings", ())],
        "facts": run.fingerprint,
        "parts": parts,
        "class_lines": class_lines(plan, record, run.fingerprint, list(parts)),
        "spreads": spreads(run.fingerprint),
        "weights": millions(weights),
        "members": _members(run, logs),
        "early": sum(log[-1]["step"] < plan.training.steps for log in logs.values()) if run.members else 0,
        "sections": [section(e, plan, run.solver.metrics()) for e in evaluations],
        "charts": curves(logs, title(run.solver.metrics().headline), _final(evaluations)),
        "budget": budget(run),
        "steps": steps(logs),
        "gallery": gallery(run, shown, device, console, folds=folds, seconds=seconds),
        "decisions": decisions(plan),
        "environment": read_json(run.root / "environment.json"),
        "command": _command(run),
        "many": MANY,
    }


def _members(run: Run, logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """A line for each member that took a step."""
    ended = {folder.name for folder in run.members}
    return [
        {"name": name, "steps": log[-1]["step"], "seconds": seconds_text(log[-1]["seconds"]), "ended": name in ended}
        for name, log in logs.items()
    ]


def _weights(plan: Plan) -> int:
    """Of one member's network."""
    return sum(p.numel() for p in build(plan).parameters())


def _final(evaluations: Iterable[Evaluation]) -> float:
    """The headline figure on all held-out cases of those that were looked at in training; NaN where there is none."""
    return next((e.metrics[e.headline].value for e in evaluations if e.part in ("val", "folds")), math.nan)


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
