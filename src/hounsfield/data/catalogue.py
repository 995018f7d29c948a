"""Published datasets that can be fetched: where each lies, its checksum, its licence and what to cite (catalogue.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.registry import nearest


@dataclass(frozen=True)
class Published:
    """One dataset in one size. shows: what its images show. cases: those with a label. licence, terms: its name, and where its
    text is. cite: what the publisher asks to cite. url: of the file `file`. folder: of an archive the folder in it that is the
    dataset, "" for a file that is one as it is. labels: names of the values 0, 1, ..., () where the data bring their own."""

    name: str
    title: str
    task: str
    shows: str
    cases: int
    licence: str
    terms: str
    cite: tuple[str, ...]
    homepage: str
    url: str
    file: str
    md5: str
    folder: str = ""
    labels: tuple[str, ...] = ()


@cache
def published() -> Mapping[str, Published]:
    """Every set by name: `breastmnist`, `breastmnist_64`, ..., `msd_hippocampus`, ..."""
    table = tomllib.loads(resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8"))
    return {one.name: one for one in (*_medmnist(table), *_decathlon(table))}


def find(name: str) -> Published:
    """The set of this name, in any case. Raises InputError UNKNOWN_MEMBER with the nearest name."""
    known = published()
    if name.lower() in known:
        return known[name.lower()]
    raise InputError(
        "UNKNOWN_MEMBER",
        f"dataset {name!r}",
        found="no dataset of this name",
        expected="one that hounsfield fetch --list shows",
        fix=nearest(name.lower(), known, "look at the list"),
    )


def _medmnist(table: Mapping[str, Any]) -> Iterator[Published]:
    source = table["medmnist"]
    for one in source["sets"]:
        for side, md5 in one["md5"].items():
            name = one["title"].lower() + ("" if side == "28" else f"_{side}")
            size = "×".join([side] * (3 if one["title"].endswith("3D") else 2))
            yield Published(
                name,
                f"{one['title']} {size}",
                "classification",
                **_common(table, source, one, f"{name}.npz"),
                md5=md5,
                labels=tuple(one["labels"]),
            )


def _decathlon(table: Mapping[str, Any]) -> Iterator[Published]:
    source = table["msd"]
    for one in source["sets"]:
        title = one["title"]
        name = f"msd_{title.partition('_')[2].lower()}"
        about = _common(table, source, one, f"{title}.tar")
        yield Published(name, title, "segmentation", **about, md5=one["md5"], folder=title)


def _common(table: Mapping[str, Any], source: Mapping[str, Any], one: Mapping[str, Any], file: str) -> dict[str, Any]:
    return {
        "shows": one["shows"],
        "cases": one["cases"],
        "licence": one["licence"],
        "terms": table["licences"][one["licence"]],
        "cite": tuple(source["cite"]),
        "homepage": source["homepage"],
        "url": f"{source['base']}/{file}{source['query']}",
        "file": file,
    }
