"""The command line: one command per verb, each calling one workflow; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hounsfield.cli.options import (
    Data,
    Device,
    Json,
    Overwrite,
    PatientRegex,
    Reader,
    RunFolder,
    choices,
    gathered,
    profile,
    training,
)
from hounsfield.core.errors import HounsfieldError

if TYPE_CHECKING:
    from hounsfield.io.deidentify.profile import Profile
    from hounsfield.io.formats import Choices
    from hounsfield.workflow.ready import Options

STARTED = time.monotonic()  # budgets count from here

app = typer.Typer(
    name="hounsfield",
    help="From a folder of medical images to a trained, measured, explained model.\n\n"
    "Start with: hounsfield inspect DATA, then hounsfield train DATA --out RUN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from hounsfield import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["HOUNSFIELD_DEBUG"] = "1"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The new run's folder.")] = Path("runs/demo"),
    data: Annotated[
        Path | None, typer.Option(help="Your own folder instead of the embedded phantoms.", show_default=False)
    ] = None,
    budget: Annotated[str, typer.Option(help="Wall-clock time for everything, such as 90s or 10m.")] = "2m",
    seed: Annotated[int, typer.Option(min=0, help="Of phantoms, split, weights and augmentation.")] = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train, evaluate, explain and report on phantoms: see it work before you have data."""
    from hounsfield.workflow.demo import demo as work

    run = work(
        out, data=data, budget=budget, seed=seed, overwrite=overwrite, device=device, console=_console(), started=STARTED
    )
    typer.echo(f"open {run.root / 'report.html'}")


@app.command()
@gathered(choices=choices)
def inspect(
    data: Data,
    choices: Choices,
    fast: Annotated[bool, typer.Option("--fast", help="Read headers alone, no pixel: seconds for thousands of files.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="A file for the page to look at or send: one file, no network.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 where there is any error or warning.")] = False,
    reader: Reader = None,
    patient_regex: PatientRegex = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say whether a folder is fit to train on: what it holds, and all that is wrong with it, worst first. Changes nothing."""
    from hounsfield.workflow.inspect import inspect as work
    from hounsfield.workflow.inspect import show

    found = work(
        data,
        reader=reader,
        patient_regex=patient_regex,
        choices=choices,
        fast=fast,
        html=html,
        overwrite=overwrite,
        console=_console(),
    )
    _print(found.to_json()) if as_json else _show(show(found))
    if refusal := found.refusal(strict):
        raise refusal


@app.command()
@gathered(choices=choices)
def image(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A file, a DICOM folder, DICOMDIR or ZIP archive.", show_default=False)
    ],
    choices: Choices,
    to: Annotated[
        Path | None, typer.Option(help="Write it there, in the format of the ending, such as scan.nii.gz.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what one image is: format, grid, place in the patient, intensities, series found; and convert it."""
    from hounsfield.workflow.image import image as work
    from hounsfield.workflow.image import show

    found = work(source, to=to, choices=choices, overwrite=overwrite)
    _print(found.to_json()) if as_json else _show(show(found))


@app.command()
@gathered(profile=profile)
def deidentify(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A file, a folder, a DICOMDIR or a ZIP archive.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.", show_default=False)],
    profile: Profile,
    key: Annotated[
        Path | None,
        typer.Option(help="The secret key behind the pseudonyms.  [default: a new one, OUT.key]", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write images anew without what tells who the patients are (DICOM PS3.15), search what was written for it, and report."""
    from hounsfield.workflow.deidentify import deidentify as work
    from hounsfield.workflow.deidentify import show

    found = work(source, out, key=key, profile=profile, console=_console())
    _print(found.to_json()) if as_json else _show(show(found))


@app.command()
@gathered(choices=choices)
def convert(
    data: Data,
    to: Annotated[str, typer.Option(help="The layout: manifest, nnunet or coco.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new dataset's folder.", show_default=False)],
    choices: Choices,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy images instead of referring to them (manifest) or linking them.")
    ] = False,
    reader: Reader = None,
    patient_regex: PatientRegex = None,
    as_json: Json = False,
) -> None:
    """Write a dataset in another layout, losslessly, and say what that layout has no place for."""
    from hounsfield.workflow.convert import convert as work

    found = work(data, to, out, copy=copy, reader=reader, patient_regex=patient_regex, choices=choices, console=_console())
    _print(found.to_json()) if as_json else typer.echo(found.out)


@app.command()
@gathered(choices=choices)
def merge(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Datasets of one task, by folder.", show_default=False)],
    labels: Annotated[Path, typer.Option(help="The mapping of their labels, a YAML file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new dataset's folder.", show_default=False)],
    choices: Choices,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of referring to them.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on copies and near copies between the datasets.")] = False,
    as_json: Json = False,
) -> None:
    """Make one dataset of several; what one of them never annotated is unknown there, and teaches nothing."""
    from hounsfield.workflow.merge import merge as work
    from hounsfield.workflow.merge import show

    found = work(data, labels, out, copy=copy, strict=strict, choices=choices, console=_console())
    _print(found.to_json()) if as_json else _show(show(found))


@app.command()
@gathered(options=training)
def plan(
    data: Data,
    options: Options,
    out: Annotated[Path | None, typer.Option(help="A file for the plan, which train --plan obeys.", show_default=False)] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Print what train would decide, each value with its reason, and what it takes in time and memory. Trains nothing."""
    from hounsfield.workflow.plan import propose, save, show

    found = propose(data, options, console=_console(), started=STARTED)
    if out is not None:
        save(found, out, overwrite=overwrite)
    _print(found.to_json()) if as_json else _show(show(found))


@app.command()
@gathered(options=training)
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The new run's folder.", show_default=False)],
    options: Options,
    plan: Annotated[Path | None, typer.Option(help="A plan.json to obey instead of the rules.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on copies and near copies between the parts.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train on a folder of images. Needs no configuration: layout, task, plan and size follow from data and time."""
    from hounsfield.workflow.train import train as work

    options = replace(options, plan=plan, strict=strict)
    run = work(data, out, options, overwrite=overwrite, resume=resume, console=_console(), started=STARTED)
    typer.echo(str(run.root))


@app.command()
@gathered(choices=choices)
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
        typer.Option(help="Of a generator: a classification run by whose features images are compared.", show_default=False),
    ] = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Measure a run: every figure with its 95% interval by patient."""
    from hounsfield.workflow.evaluate import evaluate as work

    found = work(run, data, split=split, choices=choices, features=features, device=device, console=_console())
    if as_json:
        _print(found.to_json())
        return
    typer.echo(f"{found.part}, used for {found.used_for}")
    for name, interval in found.metrics.items():
        note = f"   {interval.note}" if interval.note else ""
        typer.echo(f"  {name:24} {interval.text():24} n={interval.n}{note}")


@app.command()
@gathered(choices=choices)
def predict(
    run: RunFolder,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, folders or datasets.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the predictions.", show_default=False)],
    choices: Choices,
    to: Annotated[
        str | None,
        typer.Option(
            help="What to write, such as seg,sr: nifti (of classes: table), and of DICOM inputs seg, sr, pm, sc.",
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
    """Predict: masks on each input's own grid (.nii.gz, or .png for pictures), or a table of class probabilities; from DICOM
    also to DICOM."""
    from hounsfield.workflow.predict import predict as work

    console = _console()
    written = work(run, inputs, out, to=to, split=split, choices=choices, overwrite=overwrite, device=device, console=console)
    if as_json:
        _print({"schema": 1, "written": [str(path) for path in written]})
    else:
        for path in written:
            typer.echo(str(path))


@app.command()
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
    written = work(run, count, out, **asked, overwrite=overwrite, device=device, console=_console())
    if as_json:
        _print({"schema": 1, "written": [str(path) for path in written]})
    else:
        typer.echo(str(out))


@app.command()
def report(run: RunFolder, device: Device = "auto") -> None:
    """Write RUN/report.html anew: one file, no network, to send to a colleague."""
    from hounsfield.workflow.report import report as work

    typer.echo(str(work(run, device=device, console=_console())))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: versions, devices, memory, disk, and which extras are missing."""
    from hounsfield.workflow.doctor import doctor as work
    from hounsfield.workflow.doctor import show

    found = work()
    _print(found.to_json()) if as_json else _show(show(found))


def _console() -> Any:
    from hounsfield.workflow.console import terminal

    return terminal()


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")


def _show(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def main() -> NoReturn:
    """The entry point: one line per error, the exit codes of hounsfield.core.errors, no traceback without --debug."""
    if not os.environ.get("HOUNSFIELD_DEBUG"):
        warnings.simplefilter("ignore")  # of libraries: what concerns the user is an error or a note of ours
    try:
        app()
    except HounsfieldError as error:
        if os.environ.get("HOUNSFIELD_DEBUG"):
            raise
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("INTERRUPTED\n")
        raise SystemExit(130) from None
    raise SystemExit(0)
