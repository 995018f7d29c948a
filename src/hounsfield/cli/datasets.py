"""The verbs of datasets and of single images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.options import Data, Json, Overwrite, PatientRegex, Reader, choices, gathered, profile, reading
from hounsfield.cli.terminal import console, print_json, render

if TYPE_CHECKING:
    from hounsfield.io.deidentify.profile import Profile
    from hounsfield.io.formats import Choices

verbs = typer.Typer()


@verbs.command()
@gathered(choices=reading)
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
        console=console(),
    )
    print_json(found.to_json()) if as_json else render(show(found))
    if refusal := found.refusal(strict):
        raise refusal


@verbs.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="Such as breastmnist_64 or msd_hippocampus.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="The new dataset's folder.  [default: NAME]", show_default=False)] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Say which datasets there are (whose name holds NAME), and load nothing.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Load a published dataset from its publisher, with its licence, and verify it; go on where an earlier try stopped."""
    from hounsfield.workflow import fetch as work

    if only_list:
        sets = work.listed(name)
        print_json(work.to_json(sets)) if as_json else render(work.show(sets))
        return
    if name is None:
        raise typer.BadParameter("name a dataset, or see them with --list.", param_hint="NAME")
    found = work.fetch(name, out, overwrite=overwrite, console=console())
    print_json(found.to_json()) if as_json else typer.echo(found.out)


@verbs.command()
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
    print_json(found.to_json()) if as_json else render(show(found))


@verbs.command()
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

    found = work(source, out, key=key, profile=profile, console=console())
    print_json(found.to_json()) if as_json else render(show(found))


@verbs.command()
@gathered(choices=reading)
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

    found = work(data, to, out, copy=copy, reader=reader, patient_regex=patient_regex, choices=choices, console=console())
    print_json(found.to_json()) if as_json else typer.echo(found.out)


@verbs.command()
@gathered(choices=reading)
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

    found = work(data, labels, out, copy=copy, strict=strict, choices=choices, console=console())
    print_json(found.to_json()) if as_json else render(show(found))
