"""Images that stand in a dataset twice: exact copies by their digest, near ones, mirrored ones too, by correlation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data.channels import read_case
from hounsfield.data.facts import THUMBNAIL, CaseFacts, block_means, standardise
from hounsfield.data.masks import in_threads

# Correlation of two thumbnails from which the images themselves are compared, and of the images from which they are listed.
# The highest between different patients, as measured: thumbnails 0.977 and images 0.958 on 470 chest X-rays, 0.994 and 0.983
# on 20 fundus photographs (one camera, one bright disc), 0.92 and 0.78 on 208 cropped MR volumes. Breast ultrasound (780 of
# 28x28) has 213 pairs of thumbnails above 0.98 against 33 from 0.95 to 0.98: neighbouring frames of one lesion, of which 0.99
# keeps 157. Thumbnails rather than hash bits: within 4 of 64 bits a cosine hash finds 190 of those pairs, average and
# difference hashes also name 1,198 and 2,231 pairs of the chest X-rays.
# Where a copy was enlarged or shifted a little, its voxels correlate less than those of two fundus photographs; laid over each
# other first, copies enlarged by 1% reach 0.9946 or more, and different patients at most 0.9904 (0.9929 at 28 pixels).
CANDIDATE: Final = 0.98
NEAR: Final = 0.99
NEAR_ALIGNED: Final = 0.994
BLOCK: Final = 2**23  # correlations of thumbnails held at once
NEIGHBOURS: Final = 8192  # with which `within` compares an image, before and after it: below, all are compared
READ_AGAIN: Final = 2**29  # voxels that `within` may read a second time: seconds, whatever the dataset's size
HELD: Final = 2**26  # voxels of images held while others are compared with them, beyond the two of each thread
COMMON: Final = {2: (64, 64), 3: (32, 32, 32)}  # grid on which images of different shapes are compared

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Pair(NamedTuple):
    """Ids of two images. mirrored: the second along its last axis, left to right."""

    one: str
    other: str
    mirrored: bool = False


@dataclass(frozen=True)
class Duplicate:
    """Two samples with one image. correlation: of their voxels, if need be laid over each other first; 1.0 for exact copies.
    same_target: whether labels agree on what both were searched for; boxes, in their number. mirrored: the second is the mirror
    image of the first, left to right."""

    first: str
    second: str
    first_part: Part
    second_part: Part
    first_file: str
    second_file: str
    correlation: float
    same_target: bool
    mirrored: bool = False

    @property
    def across(self) -> bool:
        """Whether they stand in two parts."""
        return self.first_part != self.second_part

    def __str__(self) -> str:
        labels = "" if self.same_target else ", labels differ"
        sign, value = ("=", "") if self.correlation == 1 else ("~", f" ({self.correlation:.4f})")
        turned = ", mirrored" if self.mirrored else ""
        return f"{self.first_part} {self.first_file} {sign} {self.second_part} {self.second_file}{value}{turned}{labels}"


def exact(samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> list[Duplicate]:
    """Every sample whose image another one has too, beside the first of its kind; in order of part (test, val, train), id."""
    rank = {"test": 0, "val": 1, "train": 2}
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(part_of, key=lambda i: (rank[part_of[i]], i)):
        kinds[facts[name].digest].append(name)
    return [_duplicate(samples, part_of, Pair(own[0], other), 1.0) for own in kinds.values() for other in own[1:]]


def near(samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> list[Duplicate]:
    """For each test image the most alike val and train image, for each val image the most alike train image, where they
    correlate by NEAR or more and are no exact copies; the most alike first.

    Only the most alike is confirmed, so that a film's frames cost one comparison each rather than one per pair.
    """
    candidates: list[Pair] = []
    for ndim in (2, 3):
        parts: dict[Part, list[str]] = {"test": [], "val": [], "train": []}
        for name in sorted(part_of):
            if len(facts[name].shape) == ndim:
                parts[part_of[name]].append(name)
        pairs: tuple[tuple[Part, Part], ...] = (("test", "val"), ("test", "train"), ("val", "train"))
        for part, other in pairs:
            if parts[part] and parts[other]:
                candidates += _most_alike(parts[part], parts[other], facts)
    return _confirmed(candidates, samples, facts, part_of)


def within(samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> list[Duplicate]:
    """Near copies within each part, exact copies taken as one: each image with the one most alike where they correlate by NEAR
    or more; the most alike first.

    They are confirmed on the images, the most alike thumbnails first, until READ_AGAIN voxels are read: of large images with
    many alike not all are found.
    """
    links: list[Pair] = []
    for ndim in (2, 3):
        for part in ("train", "val", "test"):
            first: dict[str, str] = {}
            for name in sorted(part_of):
                if part_of[name] == part and len(facts[name].shape) == ndim:
                    first.setdefault(facts[name].digest, name)
            links += _links(list(first.values()), facts)
    budget, kept = READ_AGAIN, []
    for link in links:
        budget -= sum(_voxels(facts[name]) for name in link[:2])
        if budget < 0:
            break
        kept.append(link)
    return _confirmed(kept, samples, facts, part_of)


def count_within(
    samples: Sequence[Sample], facts: Mapping[str, CaseFacts], found: Iterable[Duplicate] | None = None
) -> tuple[int, int]:
    """How many of `samples` could go so that no image stands there twice, and how many more so that none stands beside its
    near copy; of linked images all but one. found: near copies among these samples, and perhaps others; None: searched here."""
    first: dict[str, str] = {}
    for sample in samples:
        first.setdefault(facts[sample.id].digest, sample.id)
    if found is None:
        found = within({s.id: s for s in samples}, facts, dict.fromkeys((s.id for s in samples), "train"))
    ids = {s.id for s in samples}
    links = [(first[facts[d.first].digest], first[facts[d.second].digest]) for d in found if {d.first, d.second} <= ids]
    return len(samples) - len(first), _joined(links)


def _joined(links: Sequence[tuple[str, str]]) -> int:
    """How many names could go so that one of each group that `links` join is left."""
    group: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := group.get(name, name)) != name:
            group[name] = group.get(above, above)  # halves the way for the next time
            name = above
        return name

    gone = 0
    for one, other in links:
        a, b = root(one), root(other)
        gone += a != b
        group[a] = b
    return gone


def _links(names: Sequence[str], facts: Mapping[str, CaseFacts]) -> list[Pair]:
    """Each name with the one most alike, as it is or mirrored, where their thumbnails correlate by CANDIDATE or more; the most
    alike pairs first. All have one number of axes.

    Unit vectors that correlate by c lie at most (2 - 2c)^0.5 apart, along any axis too: sorted along their longest one, only
    neighbours need comparing, and of very many only the nearest NEIGHBOURS are.
    """
    if len(names) < 2:
        return []
    plain = _thumbnails(names, facts)
    every = np.concatenate([plain, _mirrored(plain)])
    position = every @ _longest(plain)
    order = np.argsort(position, kind="stable")
    every, position = every[order], position[order]
    rows = np.flatnonzero(order < len(names))  # the images as they are, among themselves and their mirror images
    reach = (2 - 2 * CANDIDATE) ** 0.5 + 1e-3
    found: dict[Pair, float] = {}
    start = 0
    while start < len(rows):
        left = max(int(rows[start]) - NEIGHBOURS, int(np.searchsorted(position, position[rows[start]] - reach)))
        block = rows[start : start + max(1, BLOCK // (2 * NEIGHBOURS))]
        right = min(int(block[-1]) + 1 + NEIGHBOURS, int(np.searchsorted(position, position[block[-1]] + reach, side="right")))
        alike = every[block] @ every[left:right].T
        alike[order[block][:, None] == order[left:right] % len(names)] = 0  # itself, mirrored or not
        best = alike.argmax(axis=1)
        for row in np.flatnonzero(alike[np.arange(len(block)), best] >= CANDIDATE):
            turned, other = divmod(int(order[left + best[row]]), len(names))
            one, two = sorted((names[order[block[row]]], names[other]))
            found[Pair(one, two, bool(turned))] = float(alike[row, best[row]])
        start += len(block)
    return sorted(found, key=lambda pair: (-found[pair], pair))


def _longest(vectors: Floats) -> Floats:
    """About the axis along which `vectors` (N, n) spread most, of length 1, by power iteration; another is only slower."""
    centred = vectors - vectors.mean(axis=0)
    axis: Floats = np.ones(vectors.shape[1], dtype=np.float32)
    for _ in range(12):
        turned = (centred @ axis) @ centred
        length = float(np.linalg.norm(turned))
        if length < 1e-12:
            break
        axis = turned / np.float32(length)
    return axis / np.linalg.norm(axis)


def _most_alike(rows: Sequence[str], columns: Sequence[str], facts: Mapping[str, CaseFacts]) -> list[Pair]:
    """(id, most alike id of another part) whose thumbnails correlate by CANDIDATE or more and whose digests differ."""
    plain = _thumbnails(columns, facts)
    against = np.concatenate([plain, _mirrored(plain)]).T
    digests = np.array([facts[i].digest for i in columns])
    found = []
    size = max(1, BLOCK // against.shape[1])
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        alike = _thumbnails(block, facts) @ against
        alike[:, : len(columns)][np.array([facts[i].digest for i in block])[:, None] == digests] = 0
        best = alike.argmax(axis=1)
        for k, name in enumerate(block):
            if alike[k, best[k]] >= CANDIDATE:
                turned, other = divmod(int(best[k]), len(columns))
                found.append(Pair(name, columns[other], bool(turned)))
    return found


def _confirmed(
    pairs: Sequence[Pair], samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]
) -> list[Duplicate]:
    """Those of `pairs` whose images are near copies, the most alike first."""
    found = [
        # 1 is for exact copies, which are none of these.
        _duplicate(samples, part_of, pair, min(correlation, 0.9999))
        for pair, correlation in zip(pairs, _correlations(pairs, samples, facts), strict=True)
        if correlation >= NEAR
    ]
    return sorted(found, key=lambda d: (-d.correlation, d.first, d.second))


def _correlations(pairs: Sequence[Pair], samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts]) -> list[float]:
    """Of the voxels of each pair of images, their channels averaged; on a common coarse grid where the shapes differ. Where
    that is below NEAR: laid over each other, if it then is NEAR_ALIGNED or more."""
    largest = max((_voxels(facts[name]) for pair in pairs for name in pair[:2]), default=1)
    flat: Callable[[str], Floats] = lru_cache(maxsize=min(64, HELD // largest))(lambda name: _grey(samples[name]))

    def correlation(pair: Pair) -> float:
        one, other = flat(pair.one), flat(pair.other)
        other = other[..., ::-1] if pair.mirrored else other
        coarse = [block_means(a, COMMON[a.ndim]) for a in (one, other)]
        found = _correlation(*((one, other) if one.shape == other.shape else coarse))
        better = aligned(*coarse) if found < NEAR else 0.0
        return better if better >= NEAR_ALIGNED else found

    return in_threads(correlation, pairs)


def _correlation(one: Floats, other: Floats) -> float:
    return float(standardise(one) @ standardise(other))


def aligned(one: Floats, other: Floats) -> float:
    """Correlation of two images of one shape after the small affine motion, less than a voxel, that lays `one` best over
    `other`: a single step of Lucas and Kanade (IJCAI 1981), with a gain and an offset."""
    places = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float64) for n in one.shape], indexing="ij", sparse=True)
    columns: list[npt.NDArray[np.float64]] = [np.ones(one.shape), one.astype(np.float64)]
    gradients: Any = np.gradient(columns[1])
    for gradient in gradients:
        columns += [gradient, *(gradient * place for place in places)]
    table, values = np.stack(columns).reshape(len(columns), -1), other.ravel().astype(np.float64)
    weights = np.linalg.lstsq(table @ table.T, table @ values, rcond=None)[0]
    return _correlation((weights @ table).astype(np.float32), other)


def _thumbnails(names: Sequence[str], facts: Mapping[str, CaseFacts]) -> Floats:
    """(N, blocks)."""
    return np.array([np.frombuffer(facts[name].thumbnail, dtype="<f4") for name in names])


def _mirrored(thumbnails: Floats) -> Floats:
    """Of the images mirrored along their last axis; an odd number of voxels is divided a little differently then."""
    shape = next(s for s in THUMBNAIL.values() if math.prod(s) == thumbnails.shape[1])
    turned: Floats = thumbnails.reshape(-1, *shape)[..., ::-1].reshape(len(thumbnails), -1)
    return turned


def _voxels(fact: CaseFacts) -> int:
    return fact.channels * math.prod(fact.shape)


def _grey(sample: Sample) -> Floats:
    array: Floats = read_case(sample).array.mean(axis=0, dtype=np.float32)
    return array


def _duplicate(samples: Mapping[str, Sample], part_of: Mapping[str, Part], pair: Pair, correlation: float) -> Duplicate:
    one, other = samples[pair.one], samples[pair.other]
    same = _told(one, other) == _told(other, one)
    files = (str(one.images[0]), str(other.images[0]))
    return Duplicate(
        pair.one, pair.other, part_of[pair.one], part_of[pair.other], *files, correlation, same, mirrored=pair.mirrored
    )


def _told(sample: Sample, other: Sample) -> list[int]:
    """The classes that a sample's labels name, of boxes one for each, among those that the other was searched for as well; none
    of masks, which are not read."""
    target = sample.target
    labels = target.labels.tolist() if isinstance(target, Boxes) else (target,) if isinstance(target, int) else target
    if not isinstance(labels, list | tuple):
        return []
    return sorted(k for k in labels if other.known_classes is None or k in other.known_classes)
