"""Label mappings: what a person wrote is understood whole, and what cannot be meant is refused with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.mapping import Labels, read_mapping

GOOD = """
classes:
  liver: {code: [SCT, "10200004", Liver]}
  tumour:
sources:
  north:
    labels: {1: liver, lesion: tumour, cyst: null}
  south:
    labels: {organ: liver}
    known: [tumour]
"""


def write(folder: Path, text: str = GOOD) -> Path:
    file = folder / "mapping.yaml"
    file.write_text(text)
    return file


def dataset(*classes: tuple[int, str]) -> Dataset:
    named = tuple(Class(value=v, name=n) for v, n in classes)
    return Dataset((Sample("a", ()),), named, ("x",), "segmentation", "test", "", Path("data"))


NORTH = dataset((1, "parenchyma"), (2, "lesion"), (3, "cyst"))


def test_a_mapping_is_read_whole(tmp_path: Path) -> None:
    found = read_mapping(write(tmp_path))
    assert [(c.value, c.name, c.code) for c in found.classes] == [
        (1, "liver", ("SCT", "10200004", "Liver")),
        (2, "tumour", None),
    ]
    assert found.sources["north"] == Labels({"1": "liver", "lesion": "tumour", "cyst": None})
    # Names go before values, and what a source has no label for is known where the mapping says so.
    assert found.of("north", NORTH) == ({0: 0, 1: 1, 2: None}, (0, 1))
    assert found.of("south", dataset((7, "organ"))) == ({0: 0}, (0, 1))


def test_a_list_of_classes_has_no_codes(tmp_path: Path) -> None:
    found = read_mapping(write(tmp_path, "classes: [a, 2]\nsources: {x: {labels: {1: a, 2: 2}}}"))
    assert [(c.value, c.name, c.code) for c in found.classes] == [(1, "a", None), (2, "2", None)]


def test_labels_that_nobody_mapped_stop(tmp_path: Path) -> None:
    found = read_mapping(write(tmp_path))
    with pytest.raises(InputError, match=r"no entry for spleen \(4\), .*fix: add spleen: CLASS, or null") as caught:
        found.of("north", dataset((1, "a"), (2, "lesion"), (3, "cyst"), (4, "spleen")))
    assert caught.value.code == "BAD_MAPPING"
    other = read_mapping(write(tmp_path, "classes: [a]\nsources: {north: {labels: {lesions: a, lesion: a}}}"))
    with pytest.raises(InputError, match=r"'lesion', which is no label of north, .*did you mean 'lesions'"):
        other.of("north", dataset((1, "lesions")))
    with pytest.raises(InputError, match="no label that is a class"):
        read_mapping(write(tmp_path, "classes: [a]\nsources: {north: {labels: {x: null}}}")).of("north", dataset((1, "x")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lesion: tumour", "lesion: tumor", r"labels.lesion: found 'tumor', .*did you mean 'tumour'"),
        ("known: [tumour]", "known: [tumors]", "did you mean 'tumour'"),
        ("known: [tumour]", "known: tumour", "a list of classes"),
        ("known:", "knwon:", "unknown key 'knwon', .*did you mean 'known'"),
        ("sources:", "source:", "unknown key 'source', .*did you mean 'sources'"),
        ("labels: {organ: liver}", "label: {organ: liver}", "unknown key 'label', .*did you mean 'labels'"),
        ('{code: [SCT, "10200004", Liver]}', "{code: 10200004}", r"a code|\[scheme, value, meaning\]"),
        ('{code: [SCT, "10200004", Liver]}', "{codes: 1}", "unknown key 'codes'"),
        (GOOD, "classes: [a]\n", "no key 'sources'"),
        (GOOD, "- 1\n", "the keys classes and sources"),
        (GOOD, "", "nothing"),
    ],
)
def test_typos_are_named_with_what_was_meant(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        read_mapping(write(tmp_path, GOOD.replace(old, new, 1)))
    assert caught.value.code == "BAD_MAPPING"


def test_a_code_tag_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("organ: liver", "organ: !!python/name:os.getcwd ''")
    with pytest.raises(InputError, match=r"os\.getcwd") as caught:
        read_mapping(write(tmp_path, text))
    assert caught.value.code == "UNSAFE_FILE"
