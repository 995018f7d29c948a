"""Images that stand in a dataset twice: exact copies by their digest, near ones by correlation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data.channels import read_case
from hounsfield.data.facts import CaseFacts, block_means, standardise
from hounsfield.data.masks import in_threads

# Correlation of two thumbnails from which the images themselves are compared, and of the images from which they are listed.
# The highest between different patients, as measured: thumbnails 0.977 and images 0.958 on 470 chest X-rays, 0.994 and 0.983
# on 20 fundus photographs (one camera, one bright disc), 0.92 and 0.78 on 208 cropped MR volumes. Breast ultrasound (780 of
# 28x28) has 213 pairs of thumbnails above 0.98 against 33 from 0.95 to 0.98: neighbouring frames of one lesion, of which 0.99
# keeps 157. Thumbnails rather than hash bits: within 4 of 64 bits a cosine hash finds 190 of those pairs, average and
# difference hashes also name 1,198 and 2,231 pairs of the chest X-rays.
CANDIDATE: Final = 0.98
NEAR: Final = 0.99
BLOCK: Final = 2048  # thumbnails compared at once
NEIGHBOURS: Final = 8192  # with which `count_within` compares an image, before and after it: below, all are compared
READ_AGAIN: Final = 2**29  # voxels that `count_within` may read a second time: seconds, whatever the dataset's size
HELD: Final = 2**26  # voxels of images held while others are compared with them, beyond the two of each thread
COMMON: Final = {2: (64, 64), 3: (32, 32, 32)}  # grid on which images of different shapes are compared


@dataclass(frozen=True)
class Duplicate:
    """Two samples with one image. correlation: of their voxels, 1.0 for exact copies. same_target: whether labels agree."""

    first: str
    second: str
    first_part: Part
    second_part: Part
    first_file: str
    second_file: str
    correlation: float
    same_target: bool

    def __str__(self) -> str:
        labels = "" if self.same_target else ", labels differ"
        sign, value = ("=", "") if self.correlation == 1 else ("~", f" ({self.correlation:.4f})")
        return f"{self.first_part} {self.first_file} {sign} {self.second_part} {self.second_file}{value}{labels}"


def exact(samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> list[Duplicate]:
    """Every sample whose image another one has too, beside the first of its kind; in order of part (test, val, train), id."""
    rank = {"test": 0, "val": 1, "train": 2}
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(part_of, key=lambda i: (rank[part_of[i]], i)):
        kinds[facts[name].digest].append(name)
    return [_pair(samples, part_of, own[0], other, 1.0) for own in kinds.values() for other in own[1:]]


def near(samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> list[Duplicate]:
    """For each test image the most alike val and train image, for each val image the most alike train image, where they
    correlate by NEAR or more and are no exact copies; the most alike first.

    Only the most alike is confirmed, so that a film's frames cost one comparison each rather than one per pair.
    """
    candidates = list(_candidates(facts, part_of))
    found = [
        # 1 is for exact copies, which are none of these.
        _pair(samples, part_of, *pair, min(correlation, 0.9999))
        for pair, correlation in zip(candidates, _correlations(candidates, samples, facts), strict=True)
        if correlation >= NEAR
    ]
    return sorted(found, key=lambda d: (-d.correlation, d.first, d.second))


def count_within(samples: Sequence[Sample], facts: Mapping[str, CaseFacts]) -> tuple[int, int]:
    """How many of `samples` could go so that no image stands there twice, and how many more so that none stands beside its
    near copy. All must have one number of axes.

    Each image is linked with the one most alike where they correlate by NEAR or more; all but one of linked images could go.
    Links are confirmed on the images, the most alike thumbnails first, until READ_AGAIN voxels are read: of large images
    with many alike it is a lower bound.
    """
    first: dict[str, str] = {}
    for sample in samples:
        first.setdefault(facts[sample.id].digest, sample.id)
    names = list(first.values())
    links, budget = [], READ_AGAIN
    for one, other in _links(names, facts):
        budget -= sum(_voxels(facts[name]) for name in (one, other))
        if budget < 0:
            break
        links.append((one, other))
    found = _correlations(links, {s.id: s for s in samples}, facts)
    near = [link for link, correlation in zip(links, found, strict=True) if correlation >= NEAR]
    return len(samples) - len(names), _joined(near)


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


def _links(names: Sequence[str], facts: Mapping[str, CaseFacts]) -> list[tuple[str, str]]:
    """Each name with the one most alike, where their thumbnails correlate by CANDIDATE or more; the most alike pairs first.

    Unit vectors that correlate by c lie at most (2 - 2c)^0.5 apart, along any axis too: sorted along their longest one, only
    neighbours need comparing, and of very many only the nearest NEIGHBOURS are.
    """
    thumbnails = _thumbnails(names, facts)
    position = thumbnails @ np.linalg.eigh(np.cov(thumbnails, rowvar=False))[1][:, -1] if len(names) > 1 else np.zeros(1)
    order = np.argsort(position, kind="stable")
    thumbnails, position = thumbnails[order], position[order]
    reach = (2 - 2 * CANDIDATE) ** 0.5 + 1e-3
    found: dict[tuple[str, str], float] = {}
    for start in range(0, len(names), BLOCK):
        stop = min(start + BLOCK, len(names))
        left = max(start - NEIGHBOURS, int(np.searchsorted(position, position[start] - reach)))
        right = min(stop + NEIGHBOURS, int(np.searchsorted(position, position[stop - 1] + reach, side="right")))
        alike = thumbnails[start:stop] @ thumbnails[left:right].T
        rows = np.arange(stop - start)
        alike[rows, rows + start - left] = 0
        best = alike.argmax(axis=1)
        for row in np.flatnonzero(alike[rows, best] >= CANDIDATE):
            one, other = sorted((names[order[start + row]], names[order[left + best[row]]]))
            found[one, other] = float(alike[row, best[row]])
    return sorted(found, key=lambda pair: (-found[pair], pair))


def _correlations(
    pairs: Sequence[tuple[str, str]], samples: Mapping[str, Sample], facts: Mapping[str, CaseFacts]
) -> list[float]:
    """Of the voxels of each pair of images, their channels averaged; on a common coarse grid where the shapes differ."""
    largest = max((_voxels(facts[name]) for pair in pairs for name in pair), default=1)
    flat = lru_cache(maxsize=min(64, HELD // largest))(lambda name: _grey(samples[name]))

    def correlation(pair: tuple[str, str]) -> float:
        one, other = (flat(name) for name in pair)
        if one.shape != other.shape:
            one, other = (block_means(a, COMMON[a.ndim]) for a in (one, other))
        return float(standardise(one) @ standardise(other))

    return in_threads(correlation, pairs)


def _candidates(facts: Mapping[str, CaseFacts], part_of: Mapping[str, Part]) -> Iterator[tuple[str, str]]:
    """(id, most alike id of another part) whose thumbnails correlate by CANDIDATE or more and whose digests differ."""
    for ndim in (2, 3):
        parts: dict[Part, list[str]] = {"test": [], "val": [], "train": []}
        for name in sorted(part_of):
            if len(facts[name].shape) == ndim:
                parts[part_of[name]].append(name)
        pairs: tuple[tuple[Part, Part], ...] = (("test", "val"), ("test", "train"), ("val", "train"))
        for part, other in pairs:
            if parts[part] and parts[other]:
                yield from _most_alike(parts[part], parts[other], facts)


def _most_alike(rows: Sequence[str], columns: Sequence[str], facts: Mapping[str, CaseFacts]) -> Iterator[tuple[str, str]]:
    against = _thumbnails(columns, facts)
    digests = np.array([facts[i].digest for i in columns])
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        alike = _thumbnails(block, facts) @ against.T
        alike[np.array([facts[i].digest for i in block])[:, None] == digests] = 0
        best = alike.argmax(axis=1)
        for k, name in enumerate(block):
            if alike[k, best[k]] >= CANDIDATE:
                yield name, columns[best[k]]


def _thumbnails(names: Sequence[str], facts: Mapping[str, CaseFacts]) -> npt.NDArray[np.float32]:
    """(N, blocks)."""
    return np.array([np.frombuffer(facts[name].thumbnail, dtype="<f4") for name in names])


def _voxels(fact: CaseFacts) -> int:
    return fact.channels * math.prod(fact.shape)


def _grey(sample: Sample) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = read_case(sample).array.mean(axis=0, dtype=np.float32)
    return array


def _pair(samples: Mapping[str, Sample], part_of: Mapping[str, Part], first: str, second: str, correlation: float) -> Duplicate:
    one, other = samples[first], samples[second]
    same = not isinstance(one.target, (int, tuple)) or one.target == other.target
    files = (str(one.images[0]), str(other.images[0]))
    return Duplicate(first, second, part_of[first], part_of[second], *files, correlation, same)
