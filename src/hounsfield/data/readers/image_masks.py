"""Images with masks: two sibling folders, or masks beside their images under a suffix; also below splits and classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset
from hounsfield.data.layout import SPLITS, Case, cases, channel_names, given_splits, image_files, split_of, stem
from hounsfield.data.masks import MaskFile, check_pairs, find_classes
from hounsfield.data.readers import Match
from hounsfield.io.formats import Choices

Role = Literal["image", "truth", "mask", "valid"]

# Folder names, after an ordinal ("1st_manual") and before a number. "mask" is the truth, unless a folder of "truth" stands
# beside it: then it is the part of the image that was looked at, as in DRIVE.
_FOLDERS: dict[Role, str] = {
    "image": r"images?(?:tr)?|imgs?|scans?|originals?|inputs?|pictures?|photos?|frames?",
    "truth": r"labels?(?:tr)?|annotations?|gts?|ground[ _-]?truths?|segmentations?|segs?|manuals?|targets?",
    "mask": r"masks?",
    "valid": r"valid[ _-]?masks?|fovs?|fields?[ _-]of[ _-]view",
}
_FOLDER = {
    role: re.compile(rf"(?:\d+(?:st|nd|rd|th)?[ _-]*)?(?:{names})(?:[ _-]*\d+)?", re.I) for role, names in _FOLDERS.items()
}
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)?", re.I)
_MASK_WORDS = r"masks?|seg|segmentation|labels?|lbl|gt|ground[ _-]?truth|manual|annotation"
# "x_mask", "x_mask_1", "x (1)_mask 2", "x.seg": the image's stem, the mask's word, perhaps a number.
_SUFFIX = re.compile(rf"(?P<stem>.*\w\)?)[ _.-]+(?:{_MASK_WORDS})(?:[ _-]*\d+)?", re.I)
# Words that say what a file is, not which case it shows.
_ROLE_WORD = re.compile(
    rf"(?:(?P<mask>{_MASK_WORDS}|truth)|ground|images?|imgs?|scan|original|input|fov|{'|'.join(SPLITS)})(?P<number>\d*)"
)


@dataclass
class _Pairs:
    """rows: (image, its masks, its valid mask or None). alone: names of images without mask and of masks without image."""

    rows: list[tuple[Case, list[Case], Case | None]] = field(default_factory=list)
    images_alone: list[Case] = field(default_factory=list)
    masks_alone: list[Case] = field(default_factory=list)


def match(path: Path) -> Match:
    """Folders of both kinds that hold images, or masks beside at least half of the images."""
    if not path.is_dir():
        return Match(missed="folder")
    files = [f.relative_to(path) for f in image_files(path)]
    folders = {part for f in files for part in f.parts[:-1]}
    roles = {role: sorted(p for p in folders if _role(p) == role) for role in _FOLDERS}
    truths = roles["truth"] or roles["mask"]
    if roles["image"] and truths:
        return Match(f"images in {', '.join(roles['image'])} with masks in {', '.join(truths)}", priority=20)
    names = {(*f.parts[:-1], stem(f)) for f in files}
    masks = {name for name in names if _base(name) in names}
    if masks and 2 * len({_base(name) for name in masks}) >= len(names - masks):
        return Match(f"{len(masks)} masks beside their images", priority=20)
    return Match(missed="images/ with masks/ beside it, nor x.png with x_mask.png")


def read(path: Path, choices: Choices) -> Dataset:
    """Masks keep their values; the classes are the values that any mask has. Several masks of one image merge. The
    folder of a file in a suffix layout that is no split is the attribute "class".

    Raises InputError UNPAIRED, UNKNOWN_LAYOUT where two folders could be the truth, LOSSY_MASK, BAD_LABEL, NO_FOREGROUND,
    and as `cases` does.
    """
    found, left_out = cases(path, choices)
    roles = {part: role for case in found for part in case.parts[:-1] if (role := _role(part))}
    notes = [*left_out]
    if "image" in roles.values() and {"truth", "mask"} & set(roles.values()):
        roles, settled = _settle(path, found, roles)
        notes += settled
        pairs = _by_folder(found, roles)
    else:
        roles, pairs = {}, _by_suffix(found)
    places = [tuple(p for p in case.parts if p not in roles) for case, _, _ in pairs.rows]
    splits = [next((s for p in place[:-1] if (s := split_of(p))), None) for place in places]
    if None in splits and any(splits):
        notes.append(f"{splits.count(None)} cases lie outside train/, val/ and test/: those are not taken as a split")

    # A test part without masks, as challenges publish it, has nothing to be measured by.
    labelled = set(splits)
    blind = [c for c in pairs.images_alone if (s := _split(c)) and s not in labelled and labelled != {None}]
    if blind:
        notes.append(f"{len(blind)} images of a part without masks are left out")
    left = [c.name for c in pairs.images_alone if c not in blind]
    check_pairs(path, left, [c.name for c in pairs.masks_alone])

    groups = [[p for p in place[:-1] if not split_of(p)] for place in places]
    named = not roles and len({tuple(g) for g in groups}) > 1 and all(groups)
    samples = []
    for (image, masks, valid), place, group, split in zip(pairs.rows, places, groups, given_splits(splits), strict=True):
        samples.append(
            Sample(
                "/".join(place),
                (image.image,),
                _mask(masks),
                _mask([valid]) if valid else None,
                patient=image.patient,
                split=split,
                attributes={"class": "/".join(group)} if named else {},
            )
        )
    classes, voxels = find_classes({s.id: s.target for s in samples if isinstance(s.target, MaskFile)}, path)
    valid_word = ", with the valid part of each" if any(v for _, _, v in pairs.rows) else ""
    return Dataset(
        tuple(samples),
        classes,
        channel_names(*[image.image for image, _, _ in pairs.rows]),
        "segmentation",
        "image_masks",
        f"{len(samples)} images with masks of {len(classes)} class{'es' * (len(classes) > 1)}{valid_word}",
        path,
        notes=tuple(notes),
        voxels=voxels,
    )


def _mask(files: Sequence[Case]) -> MaskFile:
    """The files of one mask, which were found by one set of choices."""
    return MaskFile(tuple(f.image.path for f in files), files[0].image.choices)


def _role(folder: str) -> Role | None:
    return next((role for role, pattern in _FOLDER.items() if pattern.fullmatch(folder)), None)


def _split(case: Case) -> Split | None:
    return next((s for p in case.parts[:-1] if (s := split_of(p))), None)


def _base(name: tuple[str, ...]) -> tuple[str, ...] | None:
    """The name of the image whose mask has this one, or None for no mask's name."""
    hit = _SUFFIX.fullmatch(name[-1])
    return (*name[:-1], hit["stem"]) if hit else None


def _settle(path: Path, found: Sequence[Case], roles: dict[str, Role]) -> tuple[dict[str, Role], list[str]]:
    """Roles with one truth folder: of several observers the first; "mask" beside a truth is valid where it covers it."""
    truths = sorted(p for p, role in roles.items() if role == "truth")
    masks = sorted(p for p, role in roles.items() if role == "mask")
    notes = []
    if truths:
        first = truths[0]
        observers = [p for p in truths[1:] if _ORDINAL.sub("", p) == _ORDINAL.sub("", first)]
        doubtful = [p for p in truths[1:] if p not in observers] + [p for p in masks if not _covers(found, roles, p, first)]
        if doubtful:
            raise InputError(
                "UNKNOWN_LAYOUT",
                path,
                found=f"several folders of labels: {', '.join([first, *doubtful])}",
                expected="one",
                fix="keep one of them, or say in a manifest.csv which is the mask",
            )
        notes += [f"{p}/ is left out: {first}/ is the truth" for p in observers]
        notes += [f"{p}/ marks the valid part of each image, {first}/ is the truth" for p in masks]
        valid: dict[str, Role] = dict.fromkeys(masks, "valid")
        kept = {p: role for p, role in roles.items() if p not in observers}
        return {**kept, **valid}, notes
    first_mask: dict[str, Role] = dict.fromkeys(masks, "truth")
    return {**roles, **first_mask}, notes


def _covers(found: Sequence[Case], roles: dict[str, Role], mask: str, truth: str) -> bool:
    """Whether the first image of folder `mask` is larger than, and holds, the truth of the same case."""
    three: dict[str, Role] = {**{p: r for p, r in roles.items() if r == "image"}, truth: "truth", mask: "valid"}
    groups = _by_folder(found, three)
    row = next(((masks, valid) for _, masks, valid in groups.rows if valid), None)
    if row is None:
        return False
    inside, area = (_mask([c])().array != 0 for c in (row[0][0], row[1]) if c is not None)
    return inside.shape == area.shape and bool(area.sum() > inside.sum()) and bool(np.mean(area[inside]) >= 0.99)


def _by_folder(found: Iterable[Case], roles: dict[str, Role]) -> _Pairs:
    """Images, truths and valid masks whose places agree but for the role folder, then paired by name."""
    groups: defaultdict[tuple[str, ...], dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in found:
        role = next((roles[p] for p in case.parts[:-1] if p in roles), None)
        if role:
            groups[tuple(p for p in case.parts[:-1] if p not in roles)][role].append(case)
    pairs = _Pairs()
    for group in groups.values():
        masks, masks_alone = _pair(group["image"], group["truth"])
        valid, valid_alone = _pair(group["image"], group["valid"])
        for image in group["image"]:
            if image.parts in masks:
                pairs.rows.append((image, masks[image.parts], next(iter(valid.get(image.parts, [])), None)))
            else:
                pairs.images_alone.append(image)
        pairs.masks_alone += masks_alone + [c for c in valid_alone if masks]
    return pairs


def _by_suffix(found: Sequence[Case]) -> _Pairs:
    names = {case.parts for case in found}
    masks: defaultdict[tuple[str, ...], list[Case]] = defaultdict(list)
    pairs = _Pairs()
    images = []
    for case in found:
        base = _base(case.parts)
        if base is None:
            images.append(case)
        elif base in names:
            masks[base].append(case)
        else:
            pairs.masks_alone.append(case)
    for image in images:
        if image.parts in masks:
            pairs.rows.append((image, masks[image.parts], None))
        else:
            pairs.images_alone.append(image)
    return pairs


def _pair(images: Sequence[Case], masks: Sequence[Case]) -> tuple[dict[tuple[str, ...], list[Case]], list[Case]]:
    """Masks of each image: by equal stems, else by equal words without those of role and split, else by a stem that begins
    with the image's; and the masks of no image."""
    pairs: defaultdict[tuple[str, ...], list[Case]] = defaultdict(list)
    left = list(masks)
    rules: tuple[tuple[Callable[[str], object], Callable[[str], list[object]]], ...] = (
        (str.lower, lambda name: [name.lower()]),
        (_words, lambda name: [_words(name)]),
        (str.lower, lambda name: [name[: m.start()].lower() for m in reversed(list(re.finditer(r"[ _.-]", name)))]),
    )
    for of_image, of_mask in rules:
        own: defaultdict[object, list[Case]] = defaultdict(list)
        for image in images:
            if image.parts not in pairs:
                own[of_image(image.parts[-1])].append(image)
        # A key that several images share tells nothing.
        alone = {key: cases[0] for key, cases in own.items() if len(cases) == 1 and key}
        still = []
        for mask in left:
            image_of = next((alone[key] for key in of_mask(mask.parts[-1]) if key in alone), None)
            if image_of:
                pairs[image_of.parts].append(mask)
            else:
                still.append(mask)
        left = still
    return dict(pairs), left


def _words(name: str) -> tuple[str, ...]:
    """What tells cases apart: "21_training", "21_manual1" and "21_training_mask" are all ("21",), "image_07" and "mask_07"
    are ("07",)."""
    words: list[str] = []
    counts = False  # whether a number here counts the masks of one case
    for word in re.split(r"[^0-9a-z]+", name.lower()):
        role = _ROLE_WORD.fullmatch(word)
        number = role["number"] if role else word
        if number and not (counts and word.isdigit()) and not (role and role["mask"] and words):
            words.append(number)
        counts = bool(role and role["mask"] and words)
    return tuple(words)
