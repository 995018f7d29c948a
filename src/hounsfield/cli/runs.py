"""The verbs of runs: from a plan to what a trained network is used for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.cli.options import (
    SEVERAL,
    Data,
    Device,
    Json,
    Overwrite,
    RunFolder,
    choices,
    gathered,
    pretraining,
    reading,
    restoring,
    spread,
    studying,
    training,
)
from hounsfield.cli.terminal import STARTED, console, print_json, render, tell

if TYPE_CHECKING:
    from hounsfield.io.formats import Choices
    from hounsfield.workflow.ready import Options

verbs = typer.Typer()


@verbs.command()
@gathered(options=training, several=spread)
def plan(
    data: Data,
    options: Options,
    several: dict[str, Any],
    device_memory: Annotated[
        str | None,
        typer.Option(
            help="Of GPUs that are not here, such as 80GiB: plan for these.", show_default=False, rich_help_panel=SEVERAL
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the plan, which train --plan obeys.", show_default=False)] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Print what train would decide, each value with its reason, and what it takes in time and memory. Trains nothing."""
    from hounsfield.workflow.propose import propose, save, show

    asked = replace(options, **several)
    found = propose(data, asked, device_memory=device_memory, console=console(), started=STARTED)
    if out is not None:
        save(found, out, overwrite=overwrite)
    print_json(found.to_json()) if as_json else render(show(found))


@verbs.command()
@gathered(options=training, several=spread)
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The new run's folder.", show_default=False)],
    options: Options,
    several: dict[str, Any],
    plan: Annotated[Path | None, typer.Option(help="A plan.json to obey instead of the rules.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on copies and near copies between the parts.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train on a folder of images. Needs no configuration: layout, task, plan and size follow from data and time."""
    _train(data, out, replace(options, plan=plan, strict=strict, **several), overwrite, resume)


@verbs.command()
@gathered(options=pretraining, several=spread)
def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="The new run's folder.", show_default=False)],
    options: Options,
    several: dict[str, Any],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Let a network learn from images without labels, by filling in what is hidden; train --init begins with what it knows."""
    _train(data, out, replace(options, **several), overwrite, resume)


def _train(data: Path, out: Path, options: Options, overwrite: bool, resume: bool) -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or each of several processes warns of what is meant so
    from hounsfield.workflow.processes.place import leads
    from hounsfield.workflow.train import train as work

    run = work(data, out, options, overwrite=overwrite, resume=resume, console=console(), started=STARTED)
    if leads():
        typer.echo(str(run.root))


@verbs.command()
@gathered(options=studying)
def scaling(
    data: Data,
    out: Annotated[Path, typer.Option(help="The new study's folder.", show_default=False)],
    options: Options,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out where it stopped.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what more labelled data would bring, and which size of network suits a budget: a ladder of small trainings."""
    from hounsfield.workflow.ladders.study import show
    from hounsfield.workflow.scaling import PAGE
    from hounsfield.workflow.scaling import scaling as work

    found = work(data, out, options, overwrite=overwrite, resume=resume, console=console(), started=STARTED)
    if as_json:
        print_json(found.to_json())
    else:
        render(show(found))
        typer.echo(str(out / PAGE))


@verbs.command()
@gathered(choices=reading)
def evaluate(
    run: RunFolder,
    choices: Choices,
    data: Annotated[
        Path | None, typer.Argument(help="Another dataset; without it the run's own held-out part.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, test or folds.  [default: test where there is one, else folds or val]", show_default=False
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Of generation and restoration: a classification run by whose features images are compared.",
            show_default=False,
        ),
    ] = None,
    downstream: Annotated[
        Path | None,
        typer.Option(
            help="Of restoration: another run, whose score on clean, degraded and restored images is compared.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Measure a run: every figure with its 95% interval by patient."""
    from hounsfield.workflow.evaluate import evaluate as work

    judges: dict[str, Any] = {"features": features, "downstream": downstream}
    found = work(run, data, split=split, choices=choices, **judges, device=device, console=console())
    if as_json:
        print_json(found.to_json())
        return
    typer.echo(f"{found.part}, used for {found.used_for}")
    for name, interval in found.metrics.items():
        note = f"   {interval.note}" if interval.note else ""
        typer.echo(f"  {name:24} {interval.text():24} n={interval.n}{note}")


@verbs.command()
@gathered(choices=choices)
def predict(
    run: RunFolder,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, folders or datasets.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the predictions.", show_default=False)],
    choices: Choices,
    to: Annotated[
        str | None,
        typer.Option(
            help="What to write, such as seg,sr: nifti (of classes: table; of boxes: json, nifti, png, coco), and of DICOM "
            "inputs seg, sr, pm, sc.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only this part of a dataset: train, val or test.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Predict: masks on each input's own grid (.nii.gz, or .png for pictures), a table of class probabilities, or a list
    of boxes; from DICOM also to DICOM."""
    from hounsfield.workflow.predict import predict as work

    shown = console()
    written = work(run, inputs, out, to=to, split=split, choices=choices, overwrite=overwrite, device=device, console=shown)
    tell(written, as_json)


@verbs.command()
@gathered(choices=choices, beside=restoring)
def restore(
    run: RunFolder,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, folders or datasets.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the restored images.", show_default=False)],
    choices: Choices,
    beside: dict[str, Any],
    overwrite: Overwrite = False,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Take noise away, fill holes or raise resolution, as RUN learned to: each image in its own units, grid and format."""
    from hounsfield.workflow.restore import restore as work

    found = work(run, inputs, out, **beside, choices=choices, overwrite=overwrite, device=device, console=console())
    tell(found, as_json)


@verbs.command()
def generate(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="A new folder for the images.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-n", help="How many images.")] = 100,
    label: Annotated[
        str | None,
        typer.Option("--class", help="The class to draw.  [default: all of the run's in turn]", show_default=False),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Masks to draw from, of a run that does: a dataset or a folder.  [default: those it learned from]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images: the same one gives the same images.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Draw new images from a run of generation: synthetic, in source units, each saying so; and a sheet to look at them."""
    from hounsfield.workflow.generate import generate as work

    asked: dict[str, Any] = {"label": label, "masks": masks, "seed": seed}
    written = work(run, count, out, **asked, overwrite=overwrite, device=device, console=console())
    if as_json:
        print_json({"schema": 1, "written": [str(path) for path in written]})
    else:
        typer.echo(str(out))


@verbs.command()
def report(run: RunFolder, device: Device = "auto") -> None:
    """Write RUN/report.html anew: one file, no network, to send to a colleague."""
    from hounsfield.workflow.report import report as work

    typer.echo(str(work(run, device=device, console=console())))
