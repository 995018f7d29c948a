"""How a set of generated images compares with real ones: distance, quality, cover, copies and variety.

All but `diversity` take features, (N, F) float: a row for each image, made by one network. The figures depend on that network
and on N: they compare only under the same network and the same numbers of images, and mean something only beside those of real
images against other real ones. What they raise as InputError: TOO_FEW (it names the least number), WRONG_DIMENSION, NOT_FINITE,
BAD_OPTION.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.metrics.restoration import ms_ssim

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHUNK = 1 << 22  # distances held at a time: 32 MB
# Of `memorisation`: the chance of a false alarm by either of its two rules, the least number of images of each set, and which
# of the held-out ones (one in so many, the nearest) tell how rare small distances are.
LEVEL = 0.01
FEWEST = 20
NEAREST = 5
PERMUTATIONS = 2000


def frechet(a: Floats, b: Floats, weights_a: Floats | None = None, weights_b: Floats | None = None) -> Floats:
    """(R,) Fréchet distance of the Gaussians that have the sets' means and covariances, >= 0 (FID; Heusel et al., NeurIPS
    2017), each image counted as often as a row of the weights (R, N) and (R, M) says; without weights (1,), each once.

    |mean_a - mean_b|² + trace(A + B - 2 (A B)^½), in squared units of the features. Each set needs F + 1 images: with fewer its
    covariance is singular whatever they show. Two sets of one distribution have a distance above 0, which falls as 1 / N, and
    repeated images raise it: `bootstrap.two_samples`, which gives the interval, moves its replicates for that.
    """
    a, b = _sets(np.shape(a)[-1] + 1, a=a, b=b)
    rows = zip(_weights(a, weights_a), _weights(b, weights_b), strict=True)
    return np.array([_frechet(_moments(a, w), _moments(b, v)) for w, v in rows])


def _weights(features: Floats, weights: Floats | None) -> Floats:
    return np.ones((1, len(features))) if weights is None else weights


def _moments(features: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean (F,), and a triangular root R of the covariance R^T R."""
    total = weights.sum()
    mean = weights @ features / total
    root: Floats = np.linalg.qr((features - mean) * np.sqrt(weights / (total - 1))[:, None], mode="r")  # type: ignore[assignment]
    return mean, root


def _frechet(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    (mean_a, root_a), (mean_b, root_b) = a, b
    # The eigenvalues of A B are the squares of the singular values of the product of the roots. So no root is taken of a
    # product of matrices that are hardly positive, and no complex number appears.
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return max(0.0, float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * shared))


def kernel_distance(a: Floats, b: Floats, weights_a: Floats | None = None, weights_b: Floats | None = None) -> Floats:
    """(R,) squared maximum mean discrepancy under the kernel (x·y / F + 1)³, unbiased (KID; Bińkowski et al., ICLR 2018), each
    image counted as often as a row of the weights (R, N) and (R, M) says; without weights (1,), each once.

    Around 0, on either side, for sets of one distribution, whatever N. Each set needs 4 images. No image is compared with
    itself, repeated or not. NaN where weights leave one image of a set.
    """
    a, b = _sets(4, a=a, b=b)
    weights_a, weights_b = _weights(a, weights_a), _weights(b, weights_b)
    across = ((weights_a @ _kernel(a, b)) * weights_b).sum(axis=1) / (weights_a.sum(axis=1) * weights_b.sum(axis=1))
    return np.asarray(_within(a, weights_a) + _within(b, weights_b) - 2 * across)


def _within(features: Floats, weights: Floats) -> Floats:
    """(R,) weighted mean of the kernel over pairs of different images of one set."""
    kernel = _kernel(features, features)
    np.fill_diagonal(kernel, 0)
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    total = ((weights @ kernel) * weights).sum(axis=1)
    return np.asarray(np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def _kernel(a: Floats, b: Floats) -> Floats:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


@dataclass(frozen=True, eq=False)
class Support:
    """Which images lie where the other set has some, for N real and M generated ones. The means are the figures;
    `bootstrap.mean` gives their intervals, those of `recalled` and `covered` by patient.

    precise: (M,) whether each generated image lies in the ball of a real one, and so looks real; recalled: (N,) the reverse,
        whether each real one could have been generated: precision and recall (Kynkäänniemi et al., NeurIPS 2019, eq. 2). The
        wide ball of an outlier can raise either.
    crowd: (M,) how many real balls hold the generated image, over k; covered: (N,) whether the ball of each real image holds a
        generated one: density, >= 0, and coverage (Naeem et al., ICML 2020). Real images in place of the generated ones have
        density 1 and, with large sets of one size, coverage 1 - 2^-k.
    """

    precise: Bools
    recalled: Bools
    crowd: Floats
    covered: Bools


def support(real: Floats, generated: Floats, k: int = 5) -> Support:
    """The ball of an image reaches to its k-th nearest neighbour among the others of its set; each set needs k + 1 images."""
    if k < 1:
        raise InputError("BAD_OPTION", "k", found=str(k), expected="1 or more", fix="give the number of neighbours")
    real, generated = _sets(k + 1, real=real, generated=generated)
    of_real, of_generated = _radii(real, k), _radii(generated, k)
    precise, crowd = np.zeros(len(generated), dtype=bool), np.zeros(len(generated))
    recalled, covered = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for rows, distances in _distances(generated, real):
        inside = distances <= of_real
        precise[rows] = inside.any(axis=1)
        crowd[rows] = inside.sum(axis=1) / k
        covered |= inside.any(axis=0)
        recalled |= (distances <= of_generated[rows, None]).any(axis=0)
    return Support(precise, recalled, crowd, covered)


def _radii(features: Floats, k: int) -> Floats:
    """(N,) distance of each image to its k-th nearest other one."""
    return np.concatenate([np.partition(distances, k, axis=1)[:, k] for _, distances in _distances(features, features)])


@dataclass(frozen=True, eq=False)
class Memorisation:
    """What `memorisation` found for M generated and H held-out images.

    distances: (M,) of each generated image to the nearest training image, whose index is nearest (M,). held_out: (H,) the same
    distances of the held-out images. threshold: distance below which an image is a near copy. share: part of the generated
    images that are nearer to a training image than to any held-out one; expected: that part by chance; p: the chance of such a
    share, or a larger one, if training and held-out images were exchanged at random.
    """

    distances: Floats
    nearest: Ints
    held_out: Floats
    threshold: float
    share: float
    expected: float
    p: float

    @property
    def copies(self) -> Ints:
        """Indices of the generated images that are copies or near copies, the nearest first."""
        order = np.argsort(self.distances, kind="stable")
        copied = (self.distances < self.threshold) | (self.distances == 0)
        return np.asarray(order[copied[order]])

    @property
    def passed(self) -> bool:
        """No near copy, and no more of the generated images nearest to training images than chance explains."""
        return self.p >= LEVEL and not len(self.copies)

    def closest(self, most: int = 10) -> list[tuple[int, int, float]]:
        """Generated image, training image and distance of the closest pairs, to be looked at whatever the test says."""
        order = np.argsort(self.distances, kind="stable")[:most]
        return [(int(i), int(self.nearest[i]), float(self.distances[i])) for i in order]


def memorisation(
    train: Floats,
    held_out: Floats,
    generated: Floats,
    *,
    patients: tuple[Sequence[str | None], Sequence[str | None]] | None = None,
    seed: int = 0,
) -> Memorisation:
    """Whether generated images are copies of training images, by two rules that real images pass 98% of the time.

    Near copies: a generated image so close to a training image that LEVEL of them would be expected among as many fresh real
    images. How rare small distances are is read off the distances of held-out images to the training images (`_copy_distance`).
    Nearer to training: if a model has learned a distribution and not its examples, the image nearest to a generated one is as
    likely a held-out image as a training image. The share nearest to training images is compared with PERMUTATIONS exchanges of
    training and held-out images (of whole patients), one-sided at LEVEL. The question, of three samples, is that of Meehan et
    al. (AISTATS 2020), asked so that images which are merely typical, or merely poor, pass.

    Training and held-out images must come from one distribution; each set needs FEWEST images. patients: of the training and of
    the held-out images, None where unknown; without it each image is a patient. Raises PATIENT_LEAK for a patient in both.
    """
    train, held_out, generated = _sets(FEWEST, train=train, held_out=held_out, generated=generated)
    distances, nearest = _nearest(generated, train)
    others, other = _nearest(generated, held_out)
    closer = distances <= others
    of_train, of_held_out = patients or ([None] * len(train), [None] * len(held_out))
    if both := len({p for p in of_train if p is not None} & set(of_held_out)):
        found = f"{both} of the training patients"
        raise InputError("PATIENT_LEAK", "held-out", found=found, expected="other patients", fix="split by patient")
    near_train = _by_patient(of_train, nearest[closer])
    every = np.concatenate([near_train, _by_patient(of_held_out, other[~closer])])
    rng = np.random.default_rng(seed)
    exchanged = np.array([rng.permutation(every)[: len(near_train)].sum() for _ in range(PERMUTATIONS)])
    reference, _ = _nearest(held_out, train)
    return Memorisation(
        distances,
        nearest,
        reference,
        threshold=_copy_distance(reference, len(generated)),
        share=float(closer.mean()),
        expected=len(train) / (len(train) + len(held_out)),
        p=float((1 + (exchanged >= near_train.sum()).sum()) / (1 + PERMUTATIONS)),
    )


def _copy_distance(held_out: Floats, generated: int) -> float:
    """Distance below which LEVEL of `generated` fresh images would be expected to lie, extrapolated from held-out images.

    The chance of a distance below x falls as a power of x, the number of dimensions in which the features vary, so that
    log(edge / x) below an edge is exponential with an unknown mean. Its sum over the nearest images is Gamma-distributed, also
    where the largest quarter counts only as the next one does (censoring: a twentieth of the held-out images may themselves be
    copies). Hence the bound for a new image, which takes account of how few images the mean comes from.
    """
    near = np.sort(held_out)[: len(held_out) // NEAREST]
    edge = near[-1]
    if edge == 0:
        return 0.0
    with np.errstate(divide="ignore"):
        depths = np.log(edge / near[-2::-1])
    known = len(depths) - len(near) // 4
    total = np.minimum(depths, depths[known - 1]).sum()
    expected = generated * len(near) / (len(held_out) + 1)
    return float(edge * np.exp(-total * ((expected / LEVEL) ** (1 / known) - 1)))


def _by_patient(patients: Sequence[str | None], indices: Ints) -> Ints:
    """How often the images of each patient occur among `indices`; an unknown patient is one of its own."""
    keys = [patient if patient is not None else (index,) for index, patient in enumerate(patients)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    of_image = np.array([numbers[key] for key in keys], dtype=np.int64)
    return np.bincount(of_image[indices], minlength=len(numbers))


def _nearest(images: Floats, among: Floats) -> tuple[Floats, Ints]:
    """Distance of each image to the nearest one of another set, and its index."""
    found = [(distances.min(axis=1), distances.argmin(axis=1)) for _, distances in _distances(images, among)]
    return np.concatenate([d for d, _ in found]), np.concatenate([i for _, i in found])


def diversity(images: Floats, pairs: int = 200, seed: int = 0, limits: tuple[float, float] | None = None) -> float:
    """Mean MS-SSIM of random pairs of different images, 1 where all are alike (Odena et al., ICML 2017); to be read beside that
    of real images, for images that are less alike than real ones are as wrong as images that are more alike.

    images: (N, C, *spatial), at least 2. limits: lowest and highest value that images can have, the same for all sets that are
    compared; by default those of `images`.
    """
    if len(images) < 2:
        raise _too_few("images", len(images), 2)
    low, high = (float(images.min()), float(images.max())) if limits is None else limits
    rng = np.random.default_rng(seed)
    one = rng.integers(len(images), size=pairs)
    other = (one + rng.integers(1, len(images), size=pairs)) % len(images)
    each = [ms_ssim(images[i] - low, images[j] - low, high - low) for i, j in zip(one, other, strict=True)]
    return float(np.mean(each))


def _distances(a: Floats, b: Floats) -> Iterator[tuple[slice, Floats]]:
    """Euclidean distances (rows of a, all of b) in blocks; exactly 0 between equal rows, which a product of matrices is not."""
    from scipy.spatial.distance import cdist

    step = max(1, CHUNK // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        yield rows, cdist(a[rows], b)


def _sets(fewest: int, **sets: Floats) -> list[Floats]:
    """The sets as float64, if each has `fewest` rows of finite features, as many as the others."""
    checked = {name: np.asarray(features, dtype=np.float64) for name, features in sets.items()}
    shapes = {name: features.shape for name, features in checked.items()}
    if any(len(shape) != 2 for shape in shapes.values()) or len({shape[1] for shape in shapes.values()}) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError("WRONG_DIMENSION", "features", found=found, expected="(N, F) of one F", fix="use one network for all")
    for name, features in checked.items():
        if len(features) < fewest:
            raise _too_few(name, len(features), fewest)
        if bad := int(np.count_nonzero(~np.isfinite(features))):
            found = f"{bad} NaN or infinite values"
            where = f"features of {name}"
            raise InputError("NOT_FINITE", where, found=found, expected="finite values", fix="check the network")
    return list(checked.values())


def _too_few(name: str, count: int, fewest: int) -> InputError:
    return InputError("TOO_FEW", name, found=f"{count} images", expected=f"at least {fewest}", fix="give more images")
