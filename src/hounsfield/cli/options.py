"""The options that several commands share, with their help, and what they are together."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hounsfield.core.errors import InputError

if TYPE_CHECKING:
    from hounsfield.io.deidentify.profile import Profile, Rectangle
    from hounsfield.io.formats import Choices
    from hounsfield.workflow.ready import Options

LATER = {"Choices": object, "Options": object, "Profile": object}  # types whose modules are imported when a verb runs

CHOICES = "Where a file leaves a choice"
KEEPS = "What the strict profile would take, and may stay"
PIXELS = "Pixels"
SEVERAL = "On several devices"


class Form(StrEnum):
    """The two affines of a NIfTI file."""

    SFORM = "sform"
    QFORM = "qform"


def _value(text: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option with a value, whose help says what happens without it."""
    return typer.Option(*names, help=text, show_default=False, rich_help_panel=panel, **more)


def _flag(name: str, text: str, panel: str | None = None) -> Any:
    """A switch that is off."""
    return typer.Option(name, help=text, rich_help_panel=panel)


def _below_one(value: float) -> float:
    if not value < 1:
        raise typer.BadParameter(f"{value:g} is not below 1.")
    return value


Data = Annotated[
    Path, typer.Argument(help="A folder of images (any of the known layouts), an .npz, or a manifest.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that hounsfield train wrote.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, _flag("--json", "One JSON document on standard output; messages go to standard error.")]
Overwrite = Annotated[bool, _flag("--overwrite", "Replace what an earlier command wrote there.")]
Reader = Annotated[str | None, _value("Name the layout instead of recognising it.")]
PatientRegex = Annotated[str | None, _value("Where a file's name says the patient; the first group counts.")]

Volume = Annotated[int | None, _value("Of a 4D file, counted from 0.", panel=CHOICES, min=0)]
Frame = Annotated[int | None, _value("Of a cine or a picture with several, counted from 0.", panel=CHOICES, min=0)]
Affine = Annotated[Form | None, _value("Of a NIfTI file whose two affines disagree.", panel=CHOICES)]
Series = Annotated[str | None, _value("Of DICOM studies: number, description, or UID or its end.", panel=CHOICES)]
AllowGaps = Annotated[bool, _flag("--allow-gaps", "Interpolate missing DICOM slices.", CHOICES)]
FixTilt = Annotated[bool, _flag("--fix-tilt", "Resample DICOM slices that a gantry tilt has sheared.", CHOICES)]
DropInvalid = Annotated[bool, _flag("--drop-invalid", "Leave out boxes without extent or beyond their image.", CHOICES)]

Time = Annotated[
    str | None,
    _value("Wall-clock time for everything (90s, 10m, 2h, overnight), or 200steps, 20epochs.  [default: 10m]", "--budget"),
]
Whole = Annotated[
    str | None,
    _value("Wall-clock time for everything (30m, 2h, overnight), or 2000steps of each training.  [default: 30m]", "--budget"),
]
Size = Annotated[str | None, _value("tiny, small, base, large, huge or giant, instead of what fits the time.")]
Seed = Annotated[int, typer.Option(min=0, help="Of split, weights and augmentation.")]
TaskName = Annotated[str | None, _value("classification, detection, segmentation or restoration; the data decide.", "--task")]
ModelName = Annotated[str | None, _value("A network's name, such as resnet or timm:resnet18; the task decides.", "--model")]
Folds = Annotated[int, typer.Option(min=1, help="Members of a cross-validation, each without one part of the cases.")]
Seeds = Annotated[int | None, _value("Members of each fold; the time decides.", min=1)]
Test = Annotated[
    float, typer.Option(min=0, callback=_below_one, help="Part of the patients to set apart for the report, below 1.")
]
LeaveOut = Annotated[str | None, _value("Test on a column's value, such as site=A.")]
Changes = Annotated[list[str] | None, _value("key=JSON of the plan, such as model_options.width=16; repeatable.", "--set")]
Init = Annotated[
    str | None, _value("Weights to begin with: a run, a file (.safetensors, .pt), or timm:NAME.", "--init", metavar="WEIGHTS")
]
SkipUnreadable = Annotated[bool, _flag("--skip-unreadable", "Leave out files that cannot be read, and name them.")]

Devices = Annotated[
    int | None,
    _value(
        "So many of --device, each with a process of its own.  [default: 1, or as many as were started]", panel=SEVERAL, min=1
    ),
]
Nodes = Annotated[int, typer.Option(min=1, rich_help_panel=SEVERAL, help="Machines with so many devices each.")]
Strategy = Annotated[
    str,
    typer.Option(
        rich_help_panel=SEVERAL,
        help="ddp: each device has all of the network. fsdp: each has a part of it, for one that a device does not hold.",
    ),
]

ShiftDates = Annotated[bool, _flag("--shift-dates", "Move the dates of a patient by one number of days.", KEEPS)]
RetainUids = Annotated[bool, _flag("--retain-uids", "Keep UIDs.", KEEPS)]
RetainDevice = Annotated[bool, _flag("--retain-device", "Keep station names and serial numbers.", KEEPS)]
RetainInstitution = Annotated[bool, _flag("--retain-institution", "Keep institutions and their addresses.", KEEPS)]
RetainPatient = Annotated[
    bool, _flag("--retain-patient-characteristics", "Keep sex, age (90 at most), size, weight and the like.", KEEPS)
]
CleanDescriptors = Annotated[bool, _flag("--clean-descriptors", "Keep the harmless words of descriptions.", KEEPS)]
CleanPixels = Annotated[
    list[str] | None, _value("Blacken this rectangle in every frame; repeatable.", panel=PIXELS, metavar="X,Y,W,H")
]
AllowBurnedIn = Annotated[bool, _flag("--allow-burned-in", "Take images that say that they show text of the patient.", PIXELS)]

Mask = Annotated[Path | None, _value("To fill holes: a file that is not 0 in them, or a folder of one for each image.")]
Find = Annotated[str | None, _value("Instead of a mask: burned-in text, or metal in CT.", metavar="text|metal")]
Strength = Annotated[float | None, _value("How strong the noise is, in the unit of task_options.noise; else estimated.")]
Residual = Annotated[bool, _flag("--residual", "Write too what was changed.")]
Uncertainty = Annotated[bool, _flag("--uncertainty", "Write too how far networks and mirrored views lie apart.")]


def gathered(**groups: Callable[..., object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command with the options of a group in the place of its parameter of the group's name, which is given what the group
    makes of them. A group is a function whose parameters are options."""

    def wrap(command: Callable[..., Any]) -> Callable[..., Any]:
        taken = {name: _parameters(group) for name, group in groups.items()}
        every = [p for name, own in _parameters(command).items() for p in taken.get(name, {name: own}).values()]

        @functools.wraps(command)
        def run(**given: Any) -> Any:
            made = {name: groups[name](**{key: given.pop(key) for key in parameters}) for name, parameters in taken.items()}
            return command(**given, **made)

        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in every}
        return run

    return wrap


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """By name, with types in the place of their names."""
    types = get_type_hints(function, localns=LATER, include_extras=True)
    found = inspect.signature(function).parameters
    return {name: p.replace(kind=p.KEYWORD_ONLY, annotation=types[name]) for name, p in found.items()}


def choices(
    volume: Volume = None,
    frame: Frame = None,
    affine: Affine = None,
    series: Series = None,
    allow_gaps: AllowGaps = False,
    fix_tilt: FixTilt = False,
) -> Choices:
    """How a file is read that leaves a choice."""
    from hounsfield.io.formats import Choices

    form = affine.value if affine else None
    return Choices(volume=volume, frame=frame, affine=form, series=series, allow_gaps=allow_gaps, fix_tilt=fix_tilt)


@gathered(choices=choices)
def reading(choices: Choices, drop_invalid: DropInvalid = False) -> Choices:
    """How a dataset is read whose files or labels leave a choice."""
    return choices.model_copy(update={"drop_invalid": drop_invalid})


@gathered(choices=reading)
def learning(
    choices: Choices,
    seed: Seed = 0,
    model: ModelName = None,
    changes: Changes = None,
    reader: Reader = None,
    patient_regex: PatientRegex = None,
    device: Device = "auto",
) -> Options:
    """What decides whatever is trained."""
    from hounsfield.workflow.ready import Options

    return Options(
        model=model,
        reader=reader,
        changes=_changes(changes or []),
        seed=seed,
        patient_regex=patient_regex,
        choices=choices,
        device=device,
    )


@gathered(options=learning)
def training(
    *,
    budget: Time = None,
    size: Size = None,
    task: TaskName = None,
    folds: Folds = 1,
    seeds: Seeds = None,
    test: Test = 0.0,
    leave_out: LeaveOut = None,
    init: Init = None,
    options: Options,
) -> Options:
    """What decides a training, beside a plan file."""
    changed = replace(options, budget=budget, size=size, task=task, init=init)
    return replace(changed, folds=folds, seeds=seeds, test=test, leave_out=leave_out)


@gathered(options=learning)
def pretraining(
    *,
    budget: Time = None,
    size: Size = None,
    init: Init = None,
    leave_out: LeaveOut = None,
    skip_unreadable: SkipUnreadable = False,
    options: Options,
) -> Options:
    """What decides a pretraining."""
    changed = replace(options, task="pretraining", budget=budget, size=size, init=init)
    return replace(changed, leave_out=leave_out, skip_unreadable=skip_unreadable)


@gathered(options=learning)
def studying(*, budget: Whole = None, task: TaskName = None, test: Test = 0.0, options: Options) -> Options:
    """What decides a training among others, which differ in data and size."""
    return replace(options, budget=budget, task=task, test=test)


def _changes(given: list[str]) -> dict[str, Any]:
    """ "key=JSON" -> {key: value}; a value that is no JSON is a string."""
    out: dict[str, Any] = {}
    for item in given:
        key, found, text = item.partition("=")
        if not found:
            raise InputError(
                "BAD_OPTION", "--set", found=repr(item), expected="key=value", fix="write it as model_options.width=16"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if key in out and out[key] != value:
            raise InputError(
                "BAD_OPTION",
                "--set",
                found=f"{key} twice, {out[key]!r} and {value!r}",
                expected="one value",
                fix="leave one out",
            )
        out[key] = value
    return out


def spread(devices: Devices = None, nodes: Nodes = 1, strategy: Strategy = "ddp") -> dict[str, Any]:
    """On what a training is spread."""
    return {"devices": devices, "nodes": nodes, "strategy": strategy}


def profile(
    shift_dates: ShiftDates = False,
    retain_uids: RetainUids = False,
    retain_device: RetainDevice = False,
    retain_institution: RetainInstitution = False,
    retain_patient_characteristics: RetainPatient = False,
    clean_descriptors: CleanDescriptors = False,
    clean_pixels: CleanPixels = None,
    allow_burned_in: AllowBurnedIn = False,
) -> Profile:
    """What is taken from a file, and what may stay."""
    from hounsfield.io.deidentify.profile import Profile

    return Profile(
        shift_dates=shift_dates,
        retain_uids=retain_uids,
        retain_device=retain_device,
        retain_institution=retain_institution,
        retain_patient_characteristics=retain_patient_characteristics,
        clean_descriptors=clean_descriptors,
        clean_pixels=tuple(_rectangle(text) for text in clean_pixels or ()),
        allow_burned_in=allow_burned_in,
    )


def _rectangle(text: str) -> Rectangle:
    from hounsfield.io.deidentify.profile import Rectangle

    try:
        x, y, width, height = (int(number) for number in text.split(","))
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise InputError(
            "BAD_OPTION",
            "--clean-pixels",
            found=repr(text),
            expected="column, row, width, height in pixels",
            fix="write it as 0,0,640,40",
        )
    return Rectangle(x=x, y=y, width=width, height=height)


def restoring(
    mask: Mask = None,
    find: Find = None,
    noise: Strength = None,
    residual: Residual = False,
    uncertainty: Uncertainty = False,
) -> dict[str, Any]:
    """Where the holes are or how strong the noise is, and what is written beside a restored image."""
    from hounsfield.workflow.restore import Wanted

    return {"mask": mask, "find": find, "noise": noise, "wanted": Wanted(residual, uncertainty)}
