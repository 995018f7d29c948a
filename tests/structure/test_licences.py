"""What a user installs with the package is permissive or LGPL: no GPL."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# "GPL", "GPLv3", "AGPL-3.0", "GNU General Public License"; not "LGPL", not "Lesser General Public License".
GPL = re.compile(r"(?<![A-Za-z])A?GPL|(?<!Lesser )(?<!Library )(?<!Library or Lesser )General Public License", re.IGNORECASE)
# Code compiled by GCC carries its runtime, under an exception made for exactly that.
GCC_RUNTIME = re.compile(r"GPL-3\.0(-only|-or-later)?[ -]WITH[ -]GCC-exception-3\.1", re.IGNORECASE)


def gpl(licence: str) -> bool:
    """Whether a licence line (expression, field or classifier) obliges to the GPL: an alternative to it by OR does not."""
    plain = GCC_RUNTIME.sub("", licence)
    return all(GPL.search(choice) for choice in re.split(r"\bOR\b", plain))


def licences(name: str) -> list[str]:
    """What a distribution says of its licence: the expression where it has one, else classifiers, else the first line."""
    about = metadata.metadata(name)
    classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    expression = about.get_all("License-Expression") or []
    field = [text.strip().partition("\n")[0] for text in about.get_all("License") or []]
    return expression or classifiers or [line for line in field if line]


def holds_code(name: str) -> bool:
    """Not so for a meta-package, which only names others (cuda-toolkit, without any licence)."""
    files = metadata.files(name)
    return files is None or any(not file.parts[0].endswith(".dist-info") for file in files)


def runtime(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Every installed distribution that `name` needs with `extras`, directly or not."""
    found: set[str] = set()
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        here, wanted = waiting.pop()
        if (here, wanted) in seen:
            continue
        seen.add((here, wanted))
        for line in metadata.requires(here) or []:
            need = Requirement(line)
            if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                continue
            child = canonicalize_name(need.name)
            try:
                metadata.distribution(child)
            except metadata.PackageNotFoundError:
                continue  # an extra that is not installed here
            found.add(child)
            waiting.append((child, frozenset(need.extras)))
    return found


def shipped() -> list[str]:
    extras = frozenset(metadata.metadata("hounsfield").get_all("Provides-Extra") or []) - {"dev", "bench"}
    return sorted(runtime("hounsfield", extras | {""}) - {"hounsfield"})


def test_the_walk_reaches_indirect_needs() -> None:
    names = shipped()
    assert {"torch", "numpy", "python-gdcm", "sympy"} <= set(names)
    assert not {"pytest", "mypy", "ruff"} & set(names)


@pytest.mark.parametrize("name", shipped())
def test_licence(name: str) -> None:
    said = licences(name)
    assert said or not holds_code(name), f"{name} names no licence"
    assert not any(gpl(licence) for licence in said), f"{name} is {said}"


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("GPL-3.0-or-later", True),
        ("GPLv2", True),
        ("AGPL-3.0", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("MIT AND GPL-2.0-only", True),
        ("MIT OR GPL-2.0-only", False),
        ("LGPL-2.1", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)", False),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("Apache-2.0", False),
    ],
)
def test_gpl_is_told_from_its_kin(licence: str, refused: bool) -> None:
    assert gpl(licence) is refused
