"""The options that several commands share, with their help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path, typer.Argument(help="A folder of images (any of the known layouts), an .npz, or a manifest.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that hounsfield train wrote.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output; messages go to standard error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier command wrote there.")]
Reader = Annotated[str | None, typer.Option(help="Name the layout instead of recognising it.", show_default=False)]
PatientRegex = Annotated[
    str | None, typer.Option(help="Where a file's name says the patient; the first group counts.", show_default=False)
]


class Form(StrEnum):
    """The two affines of a NIfTI file."""

    SFORM = "sform"
    QFORM = "qform"


CHOICES = "Where a file leaves a choice"
Volume = Annotated[
    int | None,
    typer.Option(min=0, help="Of a 4D file, counted from 0.", show_default=False, rich_help_panel=CHOICES),
]
Frame = Annotated[
    int | None,
    typer.Option(
        min=0, help="Of a cine or a picture with several, counted from 0.", show_default=False, rich_help_panel=CHOICES
    ),
]
Affine = Annotated[
    Form | None,
    typer.Option(help="Of a NIfTI file whose two affines disagree.", show_default=False, rich_help_panel=CHOICES),
]
Series = Annotated[
    str | None,
    typer.Option(help="Of DICOM studies: number, description, or UID or its end.", show_default=False, rich_help_panel=CHOICES),
]
AllowGaps = Annotated[bool, typer.Option("--allow-gaps", help="Interpolate missing DICOM slices.", rich_help_panel=CHOICES)]
FixTilt = Annotated[
    bool, typer.Option("--fix-tilt", help="Resample DICOM slices that a gantry tilt has sheared.", rich_help_panel=CHOICES)
]


def _below_one(value: float) -> float:
    if not value < 1:
        raise typer.BadParameter(f"{value:g} is not below 1.")
    return value


Time = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Wall-clock time for everything (90s, 10m, 2h, overnight), or 200steps, 20epochs.  [default: 10m]",
        show_default=False,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(help="tiny, small, base, large, huge or giant, instead of what fits the time.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Of split, weights and augmentation.")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="classification or segmentation; the data decide.", show_default=False)
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A network's name, such as resnet; the task decides.", show_default=False)
]
Folds = Annotated[int, typer.Option(min=1, help="Members of a cross-validation, each without one part of the cases.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Members of each fold; the time decides.", show_default=False)]
Test = Annotated[
    float, typer.Option(min=0, callback=_below_one, help="Part of the patients to set apart for the report, below 1.")
]
LeaveOut = Annotated[str | None, typer.Option(help="Test on a column's value, such as site=A.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=JSON of the plan, such as model_options.width=16; repeatable.", show_default=False),
]
