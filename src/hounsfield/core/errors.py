"""Typed errors with stable codes: one line that says what was found, what was expected, and how to fix it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Stable: scripts match on these names. A code is never renamed, only added.
CODES: Final[dict[str, str]] = {
    # files
    "NOT_FOUND": "the path does not exist",
    "EMPTY_FILE": "the file has no bytes",
    "UNKNOWN_FORMAT": "the content is of no format that is read here",
    "WRONG_FORMAT": "the content is not what the name says",
    "TRUNCATED": "fewer bytes than the header asks for",
    "TOO_LARGE": "the header claims more than the limit, or more than the file can hold",
    "EXPANDS_TOO_FAR": "compressed data expand past the limit",
    "CORRUPT_PIXELS": "the pixel decoder failed",
    "UNSUPPORTED_SYNTAX": "no decoder for this transfer syntax or compression",
    "NESTED_TOO_DEEP": "sequences are nested past the limit",
    "BAD_HEADER": "a header field has a value outside its domain",
    "UNSAFE_FILE": "the file could run code when loaded, and is refused",
    "UNSAFE_PATH": "an archive or a directory file names a file outside of itself",
    "NOT_DEIDENTIFIED": "the file cannot be de-identified safely, and is refused",
    "IDENTIFIER_LEFT": "something that identifies a person is still in a de-identified file",
    "LOSSY_MASK": "a mask in a lossy format has lost its label values",
    # geometry
    "MISSING_SLICE": "slice positions have a gap",
    "DUPLICATE_POSITION": "two slices lie at one position",
    "DUPLICATE_UID": "two files carry one SOP Instance UID",
    "SEVERAL_SERIES": "more than one series, and none was chosen",
    "MIXED_ORIENTATION": "slices of one series differ in orientation",
    "MIXED_SLICES": "slices of one series differ in size or spacing",
    "GANTRY_TILT": "the slice stack is sheared by a gantry tilt",
    "BAD_SPACING": "spacing is zero, negative or not a number",
    "MISSING_TAG": "a tag without which pixels have no meaning is absent",
    "BAD_AFFINE": "the affine is singular or not finite",
    "AFFINE_CONFLICT": "sform and qform place the voxels differently",
    "NOT_FINITE": "voxels are NaN or infinite",
    "WRONG_DIMENSION": "the number of axes does not fit",
    "GRID_MISMATCH": "two images that belong together lie on different grids",
    # datasets
    "EMPTY_FOLDER": "the folder holds no image",
    "UNKNOWN_LAYOUT": "no reader knows this folder layout",
    "UNPAIRED": "an image without a label, or a label without an image",
    "BAD_LABEL": "a label lies outside the classes, or is no whole number",
    "BAD_MANIFEST": "a manifest row or column cannot be read",
    "BAD_MAPPING": "a label mapping cannot be read, or leaves a label out",
    "CHANNELS": "the channels are not the ones that were expected",
    "VALUE_RANGE": "values lie outside the range that was learned",
    "NO_FOREGROUND": "every mask is empty",
    "ONE_CLASS": "the training part holds a single class",
    "TOO_FEW": "too few cases for what was asked",
    "PATIENT_LEAK": "a patient stands in two splits",
    "DUPLICATE_IMAGE": "one image stands in two splits",
    "FINDINGS": "the audit found errors or warnings, and --strict was given",
    # runs, plans, members
    "BAD_PLAN": "a plan key or value is not known",
    "BAD_OPTION": "a command option cannot be used so",
    "BAD_WEIGHTS": "the weights do not fit the model, or are damaged",
    "RUN_EXISTS": "the run folder exists",
    "NOT_A_RUN": "the folder is no run",
    "OUTPUT_COLLISION": "two inputs would be written to one output",
    "OUTPUT_EXISTS": "the output exists",
    "UNKNOWN_MEMBER": "no model, task, reader, format, method or dataset of this name",
    "BAD_MEMBER": "a plug-in does not have what its folder asks for",
    "UNSUPPORTED_PAIR": "this model cannot do this task",
    "RANKS_DIFFER": "the processes of a training on several devices see different data or versions",
    "MISSING_EXTRA": "an optional package is not installed",
    # resources, divergence, interruption
    "DISK_FULL": "the disk does not hold what must be written",
    "OUT_OF_MEMORY": "the memory does not hold what was asked",
    "BUDGET_TOO_SMALL": "the time does not hold one epoch and the evaluation",
    "RANK_LOST": "a process of a training on several devices has died or says nothing any more",
    "FETCH_FAILED": "a published file cannot be loaded from its server, or arrives damaged",
    "NAN_LOSS": "the loss is not finite",
    "COLLAPSED": "one player of an adversarial training has won, and the others learn nothing",
    "INTERRUPTED": "stopped by the user",
}


class HounsfieldError(Exception):
    """Base of every error that a user can meet; never raised itself. `exit_code` is what the command returns."""

    exit_code = 1

    def __init__(self, code: str, where: str | Path, *, found: str, expected: str, fix: str) -> None:
        if code not in CODES:
            raise KeyError(f"{code} is not in errors.CODES")
        self.code = code
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.fix = fix
        line = f"{code} {self.where}: found {found}, expected {expected}; fix: {fix}"
        super().__init__(" ".join(line.split()))


class InputError(HounsfieldError):
    """What the user gave cannot be used as it is (exit 2)."""

    exit_code = 2


class ResourceError(HounsfieldError):
    """The machine lacks disk, memory, time or network (exit 3)."""

    exit_code = 3


class DivergedError(HounsfieldError):
    """Training learns nothing any more: numbers that are not finite, or a player that has won (exit 4)."""

    exit_code = 4


class RunInterruptedError(HounsfieldError):
    """The user stopped the work; what was done is saved (exit 130)."""

    exit_code = 130
