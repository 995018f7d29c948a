"""What spoils a clean image, seeded and physical, in two and three dimensions: noise, holes and lost resolution.

Every function takes and gives float32 batches (B, C, *spatial) in the source's units, so that they can follow each other. draw:
a generator on the batch's device, None for torch's own, which the training loop seeds anew at every step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, NonNegativeInt
from pydantic_core import PydanticCustomError
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Options

Draw = torch.Generator | None
FWHM = math.sqrt(8 * math.log(2))  # standard deviations between the places where a Gaussian has half of its height


def _strength(value: Any, most: float = math.inf) -> Any:
    ends = [value, value] if isinstance(value, (int, float)) else value
    two = isinstance(ends, (list, tuple)) and len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends)
    if two and 0 < ends[0] <= ends[1] <= most and math.isfinite(ends[1]):
        return value
    limit = "" if math.isinf(most) else f" and at most {most:g}"
    raise PydanticCustomError("strength", f"a number above 0{limit}, or two of them as [lowest, highest]")


Strength = Annotated[float | tuple[float, float], BeforeValidator(_strength)]
Share = Annotated[float | tuple[float, float], BeforeValidator(functools.partial(_strength, most=1.0))]


class Noise(Options):
    """What a detector adds, by `kind`; values below are in the source's units. How strong it is, by `sigma`, `quanta` or
    `dose`, is one number, or the lowest and the highest of those that are drawn.

    gaussian: normal noise of standard deviation `sigma`.
    rician: the magnitude of a complex signal whose two parts have such noise each, as of MR (Gudbjartsson and Patz, Magn.
        Reson. Med. 34, 1995); the signal is what lies above `zero`.
    poisson: counted quanta, `quanta` of them for each unit above `zero`: the variance of a value is its height / `quanta`.
    low_dose: values are attenuations, as CT numbers and the greys of a radiograph are: of `photons` quanta at full dose, of
        which the fraction `dose` is left, exp(-attenuation (value - zero)) reach the detector, are counted, get normal noise of
        `electronic` quanta from it, and become a value again; less than one quantum counts as one. Every voxel is its own ray:
        what reconstruction does to the noise of a CT, its streaks and its grain, is not simulated.
    """

    kind: Literal["gaussian", "rician", "poisson", "low_dose"] = "gaussian"
    sigma: Strength = 25.0
    zero: float = 0.0
    quanta: Strength = 1.0
    photons: float = Field(default=1e4, gt=0)
    dose: Share = 0.25
    attenuation: float = Field(default=0.01, gt=0)
    electronic: float = Field(default=10.0, ge=0)

    @property
    def key(self) -> str:
        """Of what says how strong noise of this kind is."""
        return {"poisson": "quanta", "low_dose": "dose"}.get(self.kind, "sigma")

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest strength, which may be one."""
        value: float | tuple[float, float] = getattr(self, self.key)
        return value if isinstance(value, tuple) else (value, value)

    @property
    def varies(self) -> bool:
        """Whether strengths are drawn."""
        return isinstance(getattr(self, self.key), tuple)


class Holes(Options):
    """Where nothing is known. share: of the voxels, exactly, in boxes but for rounding. strokes: winding bands of uneven width,
    in volumes tubes, that bend about every `bend` voxels. boxes: `count` of them, apart from each other, in any proportions."""

    kind: Literal["strokes", "boxes"] = "strokes"
    share: float = Field(default=0.2, gt=0, lt=1)
    bend: float = Field(default=32.0, ge=2)
    count: int = Field(default=4, ge=1)


class Resolution(Options):
    """Voxels `factor` times as long along `axes` of the model grid, (d, h, w) or (h, w) counted from 0; (): along all.
    area: the mean over the voxels that one becomes. gaussian: a profile that has half of its height at the borders of a coarse
    voxel."""

    factor: Literal[2, 4] = 2
    axes: tuple[NonNegativeInt, ...] = ()
    profile: Literal["area", "gaussian"] = "area"

    def along(self, ndim: int) -> tuple[int, ...]:
        """The axes, of images with `ndim` of them."""
        return self.axes or tuple(range(ndim))


def strengths(how: Noise, count: int, draw: Draw = None, device: torch.device | str = "cpu") -> Tensor:
    """(count,) how strong the noise of each sample is: between the limits, equal ratios being equally likely. Of one strength
    nothing is drawn."""
    low, high = how.limits
    if not how.varies:
        return torch.full((count,), low, device=device)
    drawn: Tensor = low * (high / low) ** torch.rand(count, generator=draw, device=device)
    return drawn


def add_noise(x: Tensor, how: Noise, draw: Draw = None, strength: Tensor | None = None) -> Tensor:
    """The batch as a detector with this noise would show it; nothing is rounded or cut. strength: (B,) of each sample, None for
    those that `strengths` draws first."""
    level = strengths(how, len(x), draw, x.device) if strength is None else strength
    level = level.reshape(-1, *[1] * (x.ndim - 1))
    if how.kind == "gaussian":
        return x + level * _normal(x, draw)
    signal = x - how.zero
    if how.kind == "rician":
        return how.zero + torch.hypot(signal + level * _normal(x, draw), level * _normal(x, draw))
    if how.kind == "poisson":
        return how.zero + torch.poisson((level * signal).clamp_min(0), draw) / level
    sent = level * how.photons
    counted = torch.poisson(sent * torch.exp(-how.attenuation * signal), draw) + how.electronic * _normal(x, draw)
    return how.zero - torch.log(counted.clamp_min(1) / sent) / how.attenuation


def make_holes(batch: int, shape: Sequence[int], how: Holes, draw: Draw = None, device: torch.device | str = "cpu") -> Tensor:
    """(B, 1, *shape) bool, True in the holes, of which each sample has a voxel at least."""
    if how.kind == "boxes":
        return _boxes(batch, shape, how, draw, device)
    # Near a zero of one smooth field a plane has curves; in a volume they lie where two fields have one.
    far = torch.zeros((batch, *shape), device=device)
    for _ in range(len(shape) - 1):
        far += _smooth(batch, shape, how.bend, draw, device).square()
    voxels = math.prod(shape)
    count = max(1, round(how.share * voxels))
    nearest = far.flatten(1).topk(count, dim=1, largest=False).indices  # exactly so many, also of equal ones
    hole = torch.zeros((batch, voxels), dtype=torch.bool, device=device).scatter_(1, nearest, True)
    return hole.reshape(batch, 1, *shape)


def fill(x: Tensor, hole: Tensor) -> Tensor:
    """The batch with what is known around them drawn smoothly into its holes (B, 1, *spatial): means of what is known on ever
    coarser grids, and from the coarsest back, linearly, what is still lacking (Gortler et al., "The lumigraph", SIGGRAPH
    1996, section 3.4). What is in the holes plays no part."""
    n = x.ndim - 2
    pool: Callable[..., Tensor] = F.avg_pool2d if n == 2 else F.avg_pool3d
    mode = "bilinear" if n == 2 else "trilinear"
    weight = (~hole).to(x.dtype)
    levels = [(torch.where(hole, 0.0, x), weight)]
    while max(x.shape[2:]) > 1:
        step = tuple(min(2, size) for size in x.shape[2:])
        value, weight = levels[-1]
        share = pool(weight, step, ceil_mode=True, count_include_pad=False)
        x = pool(value * weight, step, ceil_mode=True, count_include_pad=False) / share.clamp_min(1e-6)
        levels.append((x, (share * math.prod(step)).clamp_max(1)))
    known, _ = levels.pop()
    for value, weight in reversed(levels):
        known = torch.lerp(F.interpolate(known, size=value.shape[2:], mode=mode), value, weight)
    return known


def coarsen(x: Tensor, how: Resolution) -> Tensor:
    """The batch with `factor` times fewer voxels along the axes, whose sizes it divides; beyond the border it repeats."""
    weights = _profile(how)
    beyond = (len(weights) - how.factor) // 2
    for axis in how.along(x.ndim - 2):
        dim, count = axis + 2, x.shape[axis + 2] // how.factor
        wide = _padded(x, dim, beyond)
        x = _sum([_every(wide, dim, k, how.factor, count) * weight for k, weight in enumerate(weights)])
    return x


def refine(x: Tensor, how: Resolution) -> Tensor:
    """The way back by cubic convolution: `factor` times more voxels along the axes over the same extent."""
    for axis in how.along(x.ndim - 2):
        dim, count = axis + 2, x.shape[axis + 2]
        wide = _padded(x, dim, 2)
        fine = []
        for phase in range(how.factor):
            place = (phase + 0.5) / how.factor - 0.5  # of the fine voxel, from the middle of its coarse one
            before = math.floor(place)
            taps = range(before - 1, before + 3)
            fine.append(_sum([wide.narrow(dim, 2 + k, count) * _cubic(place - k) for k in taps]))
        x = torch.stack(fine, dim + 1).flatten(dim, dim + 1)
    return x


def _normal(like: Tensor, draw: Draw) -> Tensor:
    return torch.randn(like.shape, generator=draw, device=like.device)


def _smooth(batch: int, shape: Sequence[int], side: float, draw: Draw, device: torch.device | str) -> Tensor:
    """(B, *shape) normal values at knots `side` voxels apart, linear between them."""
    knots = [max(2, math.ceil(n / side) + 1) for n in shape]
    values = torch.randn((batch, 1, *knots), generator=draw, device=device)
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return F.interpolate(values, size=tuple(shape), mode=mode, align_corners=True)[:, 0]


def _boxes(batch: int, shape: Sequence[int], how: Holes, draw: Draw, device: torch.device | str) -> Tensor:
    """As `make_holes`. The image is cut into as many parts along its first axis as there are boxes, one in each, so that they
    keep apart and cover what they should."""
    n = len(shape)
    count = min(how.count, shape[0])
    parts = torch.tensor([count] + [1] * (n - 1), device=device)
    extent = torch.tensor(shape, device=device) / parts  # of a part, in voxels
    form = torch.rand((batch, count, n), generator=draw, device=device) + 0.5
    side = how.share ** (form / form.sum(dim=2, keepdim=True))  # whose product is the share
    side = torch.maximum(side, 1 / extent).clamp_max(1)
    low = torch.rand((batch, count, n), generator=draw, device=device) * (1 - side)
    low, side = low * extent, side * extent
    low = torch.cat([low[..., :1] + torch.arange(count, device=device)[:, None] * extent[0], low[..., 1:]], dim=2)
    inside = torch.ones((batch, count, *[1] * n), dtype=torch.bool, device=device)
    for axis, size in enumerate(shape):
        at = torch.arange(size, device=device) + 0.5
        first, last = low[..., axis, None], (low + side)[..., axis, None]
        line = (at > first - 1e-4) & (at < last - 1e-4)
        inside = inside & line.reshape(batch, count, *[size if k == axis else 1 for k in range(n)])
    return inside.any(dim=1, keepdim=True)


def _padded(x: Tensor, dim: int, by: int) -> Tensor:
    """The border repeated `by` times at both ends of `dim`."""
    if by == 0:
        return x
    shape = list(x.shape)
    shape[dim] = by
    first, last = (x.narrow(dim, k, 1).expand(shape) for k in (0, x.shape[dim] - 1))
    return torch.cat([first, x, last], dim)


def _every(x: Tensor, dim: int, start: int, step: int, count: int) -> Tensor:
    """`count` entries along `dim`, `step` apart, from `start` on."""
    return x[(slice(None),) * dim + (slice(start, start + step * (count - 1) + 1, step),)]


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def _profile(how: Resolution) -> list[float]:
    """Weights of the voxels around a coarse one, evenly many, that sum to 1."""
    if how.profile == "area":
        return [1 / how.factor] * how.factor
    sigma = how.factor / FWHM
    beyond = math.ceil(2 * sigma)
    places = [k - (how.factor - 1) / 2 for k in range(-beyond, how.factor + beyond)]
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in places]
    return [weight / sum(weights) for weight in weights]


def _cubic(distance: float) -> float:
    """The weight of a voxel `distance` away, in voxels."""
    d, a = abs(distance), -0.5  # exact for parabolas (Keys, IEEE Trans. Acoust. 29, 1981)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0
