"""The command line: one command per verb, each calling one workflow; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hounsfield.cli import datasets, runs
from hounsfield.cli.options import Device, Json, Overwrite
from hounsfield.cli.terminal import STARTED, console, print_json, render
from hounsfield.core.errors import HounsfieldError

app = typer.Typer(
    name="hounsfield",
    help="From a folder of medical images to a trained, measured, explained model.\n\n"
    "Start with: hounsfield inspect DATA, then hounsfield train DATA --out RUN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(datasets.verbs)
app.add_typer(runs.verbs)


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

    run = work(out, data=data, budget=budget, seed=seed, overwrite=overwrite, device=device, console=console(), started=STARTED)
    typer.echo(f"open {run.root / 'report.html'}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: versions, devices, memory, disk, and which extras are missing."""
    from hounsfield.workflow.doctor import doctor as work
    from hounsfield.workflow.doctor import show

    found = work()
    print_json(found.to_json()) if as_json else render(show(found))


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
