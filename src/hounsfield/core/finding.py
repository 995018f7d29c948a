"""What an audit finds in a dataset: how grave it is, what and where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Self

from hounsfield.core.errors import HounsfieldError, InputError
from hounsfield.core.plan import Options

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
LISTED: Final = 10  # names in one message

# Stable as errors.CODES, whose codes the findings carry that stop a training.
FINDINGS: Final[dict[str, str]] = {
    "DUPLICATE_IMAGE": "one image stands in two parts of the split",
    "NEAR_DUPLICATE": "nearly the same image stands in two parts of the split",
    "LABEL_CONFLICT": "one image has two different labels",
    "SHORTCUT": "an attribute of the files or cases tells the class",
    "BURNED_IN_TEXT": "images that say, or look as if, text is burned into their pixels",
    "MIXED_UNITS": "intensities of different units in one dataset",
    "MIXED_CHANNELS": "grey images beside colour ones",
    "CONSTANT_IMAGE": "images that show nothing",
    "SPACING_UNKNOWN": "some images know the size of a voxel, others do not",
    "SPACING_OUTLIER": "a voxel size far from that of the others",
    "RARE_CLASS": "a class with too few cases to learn or to measure",
    "CLASS_IMBALANCE": "classes of very different frequency",
    "EMPTY_MASK": "masks without any labelled voxel",
    "DUPLICATE_WITHIN": "one image stands twice in one part",
    "NEAR_WITHIN": "nearly the same image stands twice in one part",
    "PATIENTS_UNKNOWN": "which images are of one patient is not known",
    "READER_NOTE": "what the reader left out or decided",
}


class Finding(Options):
    """severity: an error stops a training; a warning makes its figures doubtful; a note is good to know. where, expected: of
    an error, else "". found: one sentence; fix: what to do. cases: ids of the samples; files: theirs; details: a line for
    each file or pair, where there is more to say than its name."""

    severity: Severity
    code: str
    found: str
    fix: str
    where: str = ""
    expected: str = ""
    cases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: HounsfieldError, cases: Iterable[str] = (), files: Iterable[str] = ()) -> Self:
        """An error as a finding."""
        return cls(
            severity="error",
            code=error.code,
            found=error.found,
            fix=error.fix,
            where=error.where,
            expected=error.expected,
            cases=tuple(cases),
            files=tuple(files),
        )

    def error(self) -> InputError:
        """The finding as what is raised; of one with details, some of them in its line."""
        found = f"{self.found}: {listed(self.details)}" if self.details else self.found
        return InputError(self.code, self.where, found=found, expected=self.expected, fix=self.fix)

    @property
    def line(self) -> str:
        """The whole in one line: of an error as it is raised, else what was found and in which files."""
        if self.severity == "error":
            return str(self.error())
        names = self.details or self.files
        return f"{self.found}: {listed(names)}" if names else self.found


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, warnings, notes; of one severity in the order given."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def listed(names: Iterable[str]) -> str:
    """ "a; b; and 4 more"."""
    own = list(names)
    return "; ".join(own[:LISTED]) + (f"; and {len(own) - LISTED} more" if len(own) > LISTED else "")


def counted(number: int, noun: str, plural: str = "") -> str:
    """ "1 case", "2,000 cases", "3 copies"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
