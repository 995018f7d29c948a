"""One typed loader behind every members-only folder: a member's name is its file's name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar, cast

from hounsfield.core.errors import InputError

M = TypeVar("M")
API = 1


def nearest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """A sentence that helps after a typo: the nearest name, else what to do `otherwise`, or all of them."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else otherwise or f"choose one of {', '.join(known)}"


@cache
def third_parties(group: str) -> tuple[metadata.EntryPoint, ...]:
    """The entry points of a group. Finding them opens every installed package, and none is installed while a process runs."""
    return tuple(metadata.entry_points(group=group))


class Folder(Generic[M]):
    """The members of one package: its public modules, and third parties' entry points of group `package` with `api = 1`.

    kind: what one member is called in messages. needs: names that every member module must define; `M` is their Protocol.
    """

    def __init__(self, package: str, kind: str, needs: tuple[str, ...]) -> None:
        self.package = package
        self.kind = kind
        self.needs = needs

    def names(self) -> list[str]:
        """Every member's name, sorted; nothing is imported but the package itself."""
        package = importlib.import_module(self.package)
        files = [f.stem for root in package.__path__ for f in Path(root).glob("*.py") if not f.stem.startswith("_")]
        return sorted({*files, *(e.name for e in third_parties(self.package))})

    def load(self, name: str) -> M:
        """The member's module. Raises InputError UNKNOWN_MEMBER (nearest name), BAD_MEMBER, MISSING_EXTRA."""
        if name not in self.names():
            raise InputError(
                "UNKNOWN_MEMBER",
                f"{self.kind} {name!r}",
                found="no member of this name",
                expected=f"a {self.kind}",
                fix=nearest(name, self.names()),
            )
        entries = [e for e in third_parties(self.package) if e.name == name]
        module = entries[0].load() if entries else importlib.import_module(f"{self.package}.{name}")
        missing = [need for need in self.needs if not hasattr(module, need)]
        if missing or (entries and getattr(module, "api", None) != API):
            raise InputError(
                "BAD_MEMBER",
                f"{self.kind} {name!r}",
                found=f"no {', '.join(missing)}" if missing else f"api {getattr(module, 'api', None)}",
                expected=f"{', '.join(self.needs)} and api = {API}",
                fix="update the plug-in",
            )
        return cast(M, module)

    def all(self) -> dict[str, M]:
        """Every member by name."""
        return {name: self.load(name) for name in self.names()}
