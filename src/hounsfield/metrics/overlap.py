"""Dice and IoU per class, exact, from one bounded-memory pass over the voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Voxels counted at a time: keeps the temporaries of one pass below some 50 MB whatever the image's size.
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Counts:
    """Voxel counts, int64. Shapes: (K,) of one case, (N, K) of several, for K classes.

    both: voxels of the class in prediction and truth. prediction, truth: voxels of the class in each.
    voxels: (K,) or (N, K), how many voxels were compared.

    Empty masks (the one policy): empty in both is perfect, 1.0; empty in one alone is 0.0; neither is ever dropped. Where
    not a single voxel was compared nothing was measured, and the value is NaN.
    """

    both: Ints
    prediction: Ints
    truth: Ints
    voxels: Ints

    @classmethod
    def stack(cls, cases: Sequence[Counts]) -> Counts:
        """(N, K) counts from N cases of (K,)."""
        return cls(*(np.stack([getattr(case, name) for case in cases]) for name in ("both", "prediction", "truth", "voxels")))

    def total(self) -> Counts:
        """(N, K) -> (K,), every case's voxels counted as of one image."""
        return Counts(*(a.sum(axis=0) for a in (self.both, self.prediction, self.truth, self.voxels)))

    @property
    def dice(self) -> Floats:
        """2 |P and T| / (|P| + |T|), in [0, 1] (Dice 1945)."""
        return self._ratio(2 * self.both, self.prediction + self.truth)

    @property
    def iou(self) -> Floats:
        """|P and T| / |P or T|, in [0, 1] (Jaccard 1912)."""
        return self._ratio(self.both, self.prediction + self.truth - self.both)

    @property
    def empty_in_both(self) -> Bools:
        """Scored 1.0."""
        return np.asarray((self.prediction == 0) & (self.truth == 0) & (self.voxels > 0))

    @property
    def empty_in_truth_only(self) -> Bools:
        """A false alarm, scored 0.0."""
        return np.asarray((self.prediction > 0) & (self.truth == 0))

    @property
    def empty_in_prediction_only(self) -> Bools:
        """A miss, scored 0.0."""
        return np.asarray((self.prediction == 0) & (self.truth > 0))

    def _ratio(self, part: Ints, whole: Ints) -> Floats:
        ratio = np.divide(part, whole, out=np.ones(whole.shape), where=whole > 0)
        return np.where(self.voxels > 0, ratio, np.nan)


def confusion(
    prediction: npt.NDArray[np.integer],
    truth: npt.NDArray[np.integer],
    values: Sequence[int],
    *,
    valid: npt.NDArray[np.generic] | None = None,
    ignore: int | None = None,
) -> Ints:
    """(K+1, K+1) voxel counts, truth along rows, prediction along columns.

    prediction, truth: label arrays of one shape (integer or bool). values: the K classes' labels, distinct; row and column
    k+1 belong to values[k], row and column 0 to every other label. valid: of the same shape, non-zero where voxels count.
    ignore: label in the truth whose voxels do not count.
    Raises InputError GRID_MISMATCH (shapes), BAD_LABEL (labels that are no integers, values that repeat).
    """
    _check_shapes(prediction=prediction, truth=truth, valid=valid)
    _check_values(values, prediction, truth)
    k = len(values) + 1
    counts = np.zeros(k * k, dtype=np.int64)
    of_prediction, of_truth = _Index(values, prediction.dtype), _Index(values, truth.dtype)
    for rows in _slabs(truth.shape):
        cells = of_truth(truth[rows]) * k + of_prediction(prediction[rows])
        keep = None if valid is None else valid[rows].ravel() != 0
        if ignore is not None:
            known = truth[rows].ravel() != ignore
            keep = known if keep is None else keep & known
        counts += np.bincount(cells if keep is None else cells[keep], minlength=k * k)
    return counts.reshape(k, k)


def count_labels(
    prediction: npt.NDArray[np.integer],
    truth: npt.NDArray[np.integer],
    values: Sequence[int],
    *,
    valid: npt.NDArray[np.generic] | None = None,
    ignore: int | None = None,
) -> Counts:
    """Counts (K,) of classes that exclude each other; arguments and errors as `confusion`."""
    return counts_of(confusion(prediction, truth, values, valid=valid, ignore=ignore))


def counts_of(matrix: Ints) -> Counts:
    """Counts (K,) from a (K+1, K+1) `confusion`."""
    every = np.full(len(matrix) - 1, matrix.sum())
    return Counts(np.diag(matrix)[1:].copy(), matrix.sum(axis=0)[1:], matrix.sum(axis=1)[1:], every)


def count_regions(prediction: Bools, truth: Bools, *, valid: npt.NDArray[np.generic] | None = None) -> Counts:
    """Counts (K,) of classes that may overlap, given as boolean channels (K, *spatial).

    valid: (*spatial) for all classes, or (K, *spatial), non-zero where voxels count.
    Raises InputError GRID_MISMATCH (shapes), BAD_LABEL (channels that are not boolean).
    """
    _check_shapes(prediction=prediction, truth=truth, valid=None)
    for name, array in (("prediction", prediction), ("truth", truth)):
        if array.dtype != np.bool_:
            raise InputError(
                "BAD_LABEL",
                name,
                found=f"channels of {array.dtype}",
                expected="boolean channels",
                fix="compare with a threshold",
            )
    if valid is not None:
        _check_shapes(truth=truth if valid.ndim == truth.ndim else truth[0], valid=valid)
    out = np.zeros((4, len(truth)), dtype=np.int64)
    for k in range(len(truth)):
        mask = None if valid is None else valid[k] if valid.ndim == truth.ndim else valid
        for rows in _slabs(truth.shape[1:]):
            p, t = prediction[k][rows], truth[k][rows]
            keep = np.ones(t.shape, dtype=bool) if mask is None else mask[rows] != 0
            p, t = p & keep, t & keep
            out[:, k] += [np.count_nonzero(a) for a in (p & t, p, t, keep)]
    return Counts(*out)


class _Index:
    """Class positions (0 for every other label) of an array's labels, flat; a table where the dtype is small."""

    def __init__(self, values: Sequence[int], dtype: np.dtype[np.integer]) -> None:
        self.order = np.argsort(values)
        self.sorted = np.asarray(values, dtype=np.int64)[self.order]
        self.table: npt.NDArray[np.intp] | None = None
        self.offset = 0
        if dtype.itemsize <= 2 and dtype != np.bool_:
            info = np.iinfo(dtype)
            self.offset = int(info.min)
            self.table = self._search(np.arange(info.min, info.max + 1, dtype=np.int64))

    def __call__(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        if self.table is None:
            return self._search(labels.ravel().astype(np.int64))
        return self.table[labels.ravel().astype(np.int32) - self.offset if self.offset else labels.ravel()]

    def _search(self, labels: Ints) -> npt.NDArray[np.intp]:
        if not len(self.sorted):
            return np.zeros(len(labels), dtype=np.intp)
        at = np.minimum(np.searchsorted(self.sorted, labels), len(self.sorted) - 1)
        return np.where(self.sorted[at] == labels, self.order[at] + 1, 0)


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices along the first axis that cut an array into pieces of about CHUNK voxels; copies of views stay that small."""
    rows = max(1, CHUNK // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def _check_shapes(**arrays: npt.NDArray[np.generic] | None) -> None:
    """Broadcasting would turn a mismatch into a plausible number."""
    given = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(given.values())) > 1:
        names = " and ".join(given)
        raise InputError(
            "GRID_MISMATCH",
            names,
            found=", ".join(f"{name} {shape}" for name, shape in given.items()),
            expected="one shape",
            fix="resample the prediction to the truth's grid",
        )


def _check_values(values: Sequence[int], *arrays: npt.NDArray[np.generic]) -> None:
    if len(set(values)) < len(values):
        raise InputError("BAD_LABEL", "classes", found=f"values {list(values)}", expected="distinct values", fix="drop repeats")
    for array in arrays:
        if array.dtype.kind not in "iub":
            raise InputError(
                "BAD_LABEL", "mask", found=f"labels of {array.dtype}", expected="an integer type", fix="round the labels"
            )
