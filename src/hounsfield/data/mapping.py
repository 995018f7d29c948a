"""A label mapping: which label of which dataset means which class of the merged one, as a person wrote it in YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.registry import nearest
from hounsfield.data.checks import abridged
from hounsfield.data.dataset import Dataset, name_classes
from hounsfield.io.yaml import load_yaml

KEYS = ("classes", "sources")
CLASS_KEYS = ("code",)
SOURCE_KEYS = ("labels", "known")
CODE = "[scheme, value, meaning], such as [SCT, '10200004', Liver]"


@dataclass(frozen=True)
class Labels:
    """One source's part of a mapping. to: by the source's label, a class name or mask value, the canonical class, None for
    what is none of them. known: canonical classes that were searched for without a label of their own."""

    to: Mapping[str, str | None]
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMapping:
    """file: where it was read. classes: canonical, in order, of values 1, 2, .... sources: by name."""

    file: Path
    classes: tuple[Class, ...]
    sources: Mapping[str, Labels]

    def of(self, name: str, dataset: Dataset) -> tuple[dict[int, int | None], tuple[int, ...]]:
        """For one source: class index to canonical index or None, and the canonical indices that are known there.

        Raises InputError BAD_MAPPING where a label of the dataset is not mapped, or a mapped one is none of its labels.
        """
        labels = self.sources[name]
        where = f"{self.file} sources.{name}.labels"
        index = {c.name: k for k, c in enumerate(self.classes)}
        left = dict(labels.to)
        found: dict[int, int | None] = {}
        lacking = []
        for k, c in enumerate(dataset.classes):
            key = next((text for text in (c.name, str(c.value)) if text in left), None)
            if key is None:
                lacking.append(f"{c.name} ({c.value})")
                continue
            to = left.pop(key)
            found[k] = None if to is None else index[to]
        if lacking:
            raise _bad(
                where,
                f"no entry for {abridged(lacking)}",
                f"every label of {name}",
                f"add {lacking[0].rpartition(' ')[0]}: CLASS, or null for what is no class",
            )
        if left:
            have = [text for c in dataset.classes for text in (c.name, str(c.value))]
            first = next(iter(left))
            raise _bad(where, f"{first!r}, which is no label of {name}", f"one of {abridged(have)}", nearest(first, have))
        known = {k for k in found.values() if k is not None} | {index[text] for text in labels.known}
        if not known:
            raise _bad(where, "no label that is a class", "at least one", f"map a label, or leave {name} out")
        return found, tuple(sorted(known))


def read_mapping(file: Path) -> LabelMapping:
    """The mapping in a YAML file.

    Raises InputError NOT_FOUND, BAD_MAPPING (naming key and nearest), UNSAFE_FILE for tags that could run code.
    """
    values = _mapping(load_yaml(file, "BAD_MAPPING"), f"{file}", "the keys classes and sources")
    _keys(values, KEYS, f"{file}", KEYS)
    given = values["classes"]
    if isinstance(given, list):
        given = dict.fromkeys(map(_text, given))
    given = _mapping(given, f"{file} classes", "names of the classes")
    codes = {_text(name): _code(about, f"{file} classes.{name}") for name, about in given.items()}
    classes = tuple(
        c.model_copy(update={"code": codes[c.name]}) for c in name_classes((k, name) for k, name in enumerate(codes, start=1))
    )
    sources = {}
    for name, about in _mapping(values["sources"], f"{file} sources", "a name for each dataset").items():
        where = f"{file} sources.{name}"
        about = _mapping(about, where, "the key labels")
        _keys(about, SOURCE_KEYS, where, ("labels",))
        to = {
            _text(label): None if target is None else _class(_text(target), codes, f"{where}.labels.{label}")
            for label, target in _mapping(about["labels"], f"{where}.labels", "label: class").items()
        }
        known = about.get("known") or []
        if not isinstance(known, list):
            raise _bad(f"{where}.known", f"{known!r}", "a list of classes", "write [a, b]")
        sources[_text(name)] = Labels(to, tuple(_class(_text(k), codes, f"{where}.known") for k in known))
    return LabelMapping(file, classes, sources)


def _class(name: str, classes: Iterable[str], where: str) -> str:
    known = list(classes)
    if name not in known:
        raise _bad(where, f"{name!r}", f"one of the classes {abridged(known)}", nearest(name, known))
    return name


def _code(about: object, where: str) -> tuple[str, str, str] | None:
    if about is None:
        return None
    values = _mapping(about, where, "the key code, or nothing")
    _keys(values, CLASS_KEYS, where, CLASS_KEYS)
    code = values["code"]
    if not isinstance(code, list) or len(code) != 3:
        raise _bad(f"{where}.code", f"{code!r}", CODE, "write it so")
    scheme, value, meaning = (_text(part) for part in code)
    return scheme, value, meaning


def _mapping(value: object, where: str, expected: str) -> dict[Any, Any]:
    if not isinstance(value, dict) or not value:
        raise _bad(where, f"{value!r}"[:60] if value else "nothing", expected, "write it as key: value")
    return value


def _keys(values: Mapping[Any, Any], known: Iterable[str], where: str, needed: Iterable[str]) -> None:
    known = list(known)
    odd = next((key for key in values if key not in known), None)
    if odd is not None:
        raise _bad(where, f"unknown key {str(odd)!r}", f"the keys {', '.join(known)}", nearest(str(odd), known))
    absent = [key for key in needed if key not in values]
    if absent:
        raise _bad(where, f"no key {absent[0]!r}", f"the keys {', '.join(known)}", f"add {absent[0]}")


def _text(value: object) -> str:
    """YAML reads 1 as a number and yes as a truth."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _bad(where: str, found: str, expected: str, fix: str) -> InputError:
    return InputError("BAD_MAPPING", where, found=found, expected=expected, fix=fix)
