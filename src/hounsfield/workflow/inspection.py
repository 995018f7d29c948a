"""What inspect found, as values: counts, grids, measures, copies and findings, and whether it is fit to train on."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field

from hounsfield.core.errors import InputError
from hounsfield.core.finding import SEVERITIES, Finding, Severity, counted
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Options


class PartFacts(Options):
    """One part of the split that training would use. patients: None where unknown. classes: cases with each class, by name.
    empty: masks without any labelled voxel."""

    cases: int
    patients: int | None
    classes: dict[str, int]
    empty: int


class Copy(Options):
    """Two cases with one image, or nearly. parts: theirs. correlation: 1 for exact copies. mirrored: left to right."""

    cases: tuple[str, str]
    parts: tuple[str, str]
    correlation: float
    same_label: bool
    mirrored: bool = False


class Grid(Options):
    """Of all cases, per axis in canonical order: (depth, height, width) or (height, width). shape: voxels; spacing: mm, px
    where `space` is "none" ("mixed": cases differ)."""

    space: str
    shape_min: tuple[float, ...]
    shape_median: tuple[float, ...]
    shape_max: tuple[float, ...]
    spacing_min: tuple[float, ...]
    spacing_median: tuple[float, ...]
    spacing_max: tuple[float, ...]


class Inspection(Options):
    """What was found. kind: the task that the labels suggest, None without labels. fast: whether headers alone were read.
    split: who divides the cases, "none" where they are not divided. parts: of that split, after exact copies across parts were
    dropped. unread: cases whose files cannot be read. grid: None where flat images stand beside volumes. measured: over all
    cases that can be read, None where they cannot be compared. orientations, dtypes: how many cases have each.
    findings: the worst first. notes: those that stop no training, faults: those that do, in a line each."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    data: str
    reader: str
    found: str
    kind: str | None
    fast: bool
    cases: int
    patients: int | None
    split: Literal["given", "drawn", "none"] = "none"
    parts: dict[str, PartFacts] = Field(default={})
    unread: tuple[str, ...] = ()
    grid: Grid | None = None
    measured: Fingerprint | None = None
    orientations: dict[str, int]
    dtypes: dict[str, int]
    dropped: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    near: tuple[Copy, ...] = ()
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    def number(self, severity: Severity) -> int:
        """How many findings of one severity there are."""
        return sum(f.severity == severity for f in self.findings)

    @property
    def state(self) -> Literal["error", "warning", "good"]:
        """The gravest that was found; notes are good."""
        return "error" if self.number("error") else "warning" if self.number("warning") else "good"

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether it is fit to train on, in a few words and in a sentence."""
        errors, warnings = counted(self.number("error"), "error"), counted(self.number("warning"), "warning")
        read = (
            "the headers alone were read, no pixel"
            if self.fast
            else f"{counted(self.cases - len(self.unread), 'case')} read in full"
        )
        if self.state == "error":
            stops = "stops" if self.number("error") == 1 else "stop"
            return "Not fit to train on", f"{errors} {stops} a training; {read}."
        if self.kind is None:
            return "No labels to train on", f"{warnings if self.number('warning') else 'Nothing wrong'} in the images; {read}."
        if self.state == "warning":
            makes = "makes" if self.number("warning") == 1 else "make"
            return "Look before you train", f"A training would run, but {warnings} {makes} its figures doubtful; {read}."
        fit = "Fit to train on, as far as headers tell" if self.fast else "Fit to train on"
        return fit, f"Nothing was found that is wrong; {read}."

    @property
    def tally(self) -> str:
        """ "1 error (PATIENT_LEAK), 2 warnings (SHORTCUT, BURNED_IN_TEXT)"; notes are not counted, "" without any other."""
        told = []
        for severity in SEVERITIES[:2]:
            codes = Counter(f.code for f in self.findings if f.severity == severity)
            if codes:
                told.append(f"{counted(sum(codes.values()), severity)} ({', '.join(codes)})")
        return ", ".join(told)

    def refusal(self, strict: bool) -> InputError | None:
        """What the command ends with though it has told everything: that files cannot be read, with `strict` that there are
        errors or warnings; None where it ends well."""
        if strict and self.tally:
            fix = "mend what is listed, or leave out --strict"
            return InputError("FINDINGS", self.data, found=self.tally, expected="none with --strict", fix=fix)
        unread = set(self.unread)
        first = next((f for f in self.findings if f.severity == "error" and f.cases and unread.issuperset(f.cases)), None)
        return None if first is None else first.error()
