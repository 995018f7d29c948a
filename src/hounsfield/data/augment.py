"""Augmentation of a whole batch on its device: one fused resampling in space, then changes of intensity.

Every draw comes from the generator that is passed in, so a batch is a pure function of its seed. Angles and zooms act in
millimetres: anisotropic voxels are rotated as the body is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Augment
from hounsfield.data.prepare import IGNORE

VISIBLE = 0.3  # of a box that must be left in the patch
BLOCK = 2**17  # voxels that a CPU resamples at a time, so that their coordinates and neighbours stay in its cache


def generator(device: torch.device | str, *seed: int) -> torch.Generator:
    """A generator on `device` whose stream depends on all of `seed`."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return torch.Generator(device).manual_seed(mixed)


def margin(patch: Sequence[int], how: Augment) -> tuple[int, ...]:
    """Size of the region that must be read so that a rotated and zoomed patch finds its voxels (at most 1.5 patches)."""
    turn = min(math.radians(max(how.rotation, default=0.0)), math.pi / 4)
    reach = (math.cos(turn) + math.sin(turn)) / (1 - how.scale) + 2 * how.shift
    factor = min(1.5, reach) if how.probability > 0 else 1.0
    return tuple(math.ceil(p * factor) if p > 1 else 1 for p in patch)


def augment(
    image: Tensor, target: Tensor | None, patch: Sequence[int], spacing: Sequence[float], how: Augment, draw: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """image: float32 (B, C, *read), normalised; target: uint8 (B, R, *read) with IGNORE, or None; read >= patch.

    Returns (B, C, *patch) and (B, R, *patch): the centre of the region, moved, rotated, zoomed, bent and mirrored by one
    interpolation (linear for the image, nearest for the target; beyond the region the image repeats its border and the
    target is IGNORE), then blurred, coarsened, noised, and changed in brightness, contrast and gamma.
    """
    image, target = _move(image, target, tuple(patch), tuple(spacing), how, draw)
    image = _soften(image, how, draw)
    return _recolour(image, how, draw), target


def augment_boxes(
    image: Tensor, boxes: Tensor, patch: Sequence[int], spacing: Sequence[float], how: Augment, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `augment`, with boxes in the place of a target: (B, M, 2n + 1), corners in voxels of the region that was read and
    class index; in the result those of the patch, cut at its border. Boxes of which less than VISIBLE is left are no more.

    A turned box is the hull of the ellipsoid that fills it, not of its corners, which hold nothing (Kalra et al., "Towards
    rotation invariance in object detection", ICCV 2021). An elastic change is too small to move a box.
    """
    motion = _motion(len(image), tuple(image.shape[2:]), tuple(patch), tuple(spacing), how, draw, image.device)
    image, _ = _follow(image, None, tuple(patch), motion, how, draw)
    image = _soften(image, how, draw)
    return _recolour(image, how, draw), _move_boxes(boxes, motion, patch)


@dataclass(frozen=True)
class Motion:
    """Where the voxel `index` of the patch lies in the region that was read: matrix (B, n, n) times (index less the middle of
    the patch), plus origin (B, n). still: all matrices are one, and all origins the middle of the region."""

    matrix: Tensor
    origin: Tensor
    still: bool


def _move_boxes(boxes: Tensor, motion: Motion, patch: Sequence[int]) -> Tensor:
    n = len(patch)
    size = torch.tensor(patch, device=boxes.device, dtype=torch.float32)
    back = torch.linalg.inv(motion.matrix)
    low, high, label = boxes[..., :n], boxes[..., n:-1], boxes[..., -1]
    # A voxel's index is its middle, half a voxel after its first edge.
    middle = (low + high) / 2 - 0.5 - motion.origin[:, None]
    middle = (back[:, None] @ middle[..., None])[..., 0] + size / 2
    half = (back[:, None].square() @ ((high - low) / 2).square()[..., None])[..., 0].sqrt()
    low, high = middle - half, middle + half
    inside = (torch.minimum(high, size) - low.clamp_min(0)).clamp_min(0)
    visible = inside.prod(dim=-1) / (high - low).prod(dim=-1).clamp_min(1e-9)
    kept = torch.where((label >= 0) & (visible < VISIBLE), -1.0, label)
    low, high = (torch.minimum(edge.clamp_min(0), size) for edge in (low, high))
    return torch.cat([low, high, kept[..., None]], dim=-1)


def _move(
    image: Tensor,
    target: Tensor | None,
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
    how: Augment,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    motion = _motion(len(image), tuple(image.shape[2:]), patch, spacing, how, draw, image.device)
    return _follow(image, target, patch, motion, how, draw)


def _motion(
    batch: int,
    read: tuple[int, ...],
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
    how: Augment,
    draw: torch.Generator,
    device: torch.device,
) -> Motion:
    matrix, moved = _affine(batch, len(patch), how, draw, device)
    scale = torch.tensor(spacing, device=device, dtype=torch.float32)
    matrix = matrix * scale / scale[:, None]  # from millimetres to voxels: S^-1 M S
    size = torch.tensor(patch, device=device, dtype=torch.float32)
    corner = torch.tensor([(r - p) // 2 for r, p in zip(read, patch, strict=True)], device=device)
    origin = ((size - 1) / 2 + corner).repeat(batch, 1)
    if moved:
        origin = (
            origin + _uniform((batch, len(patch)), how.shift, draw, device) * size * _chosen(batch, how, draw, device)[:, None]
        )
    return Motion(matrix, origin, not moved)


def _follow(
    image: Tensor, target: Tensor | None, patch: tuple[int, ...], motion: Motion, how: Augment, draw: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    batch, read = len(image), image.shape[2:]
    bent = how.elastic > 0 and how.probability > 0
    if motion.still and not bent:
        corner = [(r - p) // 2 for r, p in zip(read, patch, strict=True)]
        window = (slice(None), slice(None), *[slice(c, c + p) for c, p in zip(corner, patch, strict=True)])
        return image[window].clone(), None if target is None else target[window]
    lines = [
        column[..., None] * (torch.arange(p, device=image.device) - (p - 1) / 2)
        for column, p in zip(motion.matrix.unbind(-1), patch, strict=True)
    ]
    lines[0] += motion.origin[..., None]
    knots, spread = _bend(batch, patch, how, draw, image.device) if bent else (None, None)
    return _resample(image, target, Grid(patch, lines, knots, spread))


@dataclass(frozen=True)
class Grid:
    """Where each output voxel lies in the region that was read, in voxels: its coordinate along axis a is the sum over the
    output's axes j of lines[j][:, a], and of (knots @ spread)[:, a].

    lines: (B, n, patch[j]). knots: (B, n, *patch[:-1], k); spread: (k, patch[-1]).
    """

    patch: tuple[int, ...]
    lines: list[Tensor]
    knots: Tensor | None
    spread: Tensor | None

    @cached_property
    def across(self) -> Tensor:
        """(B, n, *patch[1:]) what the axes but the first add."""
        return self.lines[1] if len(self.patch) == 2 else self.lines[1][..., None] + self.lines[2][..., None, :]

    def blocks(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Samples, rows, and their coordinates (S, n, rows, *patch[1:]), few enough at a time to stay in a CPU's cache."""
        first, plane = self.lines[0], math.prod(self.patch[1:])
        first = first.reshape(*first.shape, *[1] * (len(self.patch) - 1))
        limit = BLOCK if first.device.type == "cpu" else 2**62
        rows, samples = min(self.patch[0], max(1, limit // plane)), max(1, limit // (plane * self.patch[0]))
        for b, r in product(range(0, len(first), samples), range(0, self.patch[0], rows)):
            some, few = slice(b, b + samples), slice(r, r + rows)
            at = first[some, :, few] + self.across[some, :, None]
            if self.knots is not None and self.spread is not None:
                at.view(-1, self.patch[-1]).addmm_(self.knots[some, :, few].reshape(-1, len(self.spread)), self.spread)
            yield some, few, at


def _resample(image: Tensor, target: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """Linear values of the image and nearest ones of the target where the grid says.

    By gathers and not by grid_sample, whose 3D kernel on CPU is scalar and needs the grid as a whole: at 96^3 the linear values
    took 26 ms this way and 51 ms there with the making of the grid (one thread of an AMD EPYC).
    """
    read, n = image.shape[2:], len(grid.patch)
    out = image.new_empty((*image.shape[:2], *grid.patch))
    # Just below the last voxel, so that its neighbours are within.
    last = [float(np.nextafter(np.float32(r - 1), np.float32(0))) for r in read]
    steps = [math.prod(read[axis + 1 :]) if r > 1 else 0 for axis, r in enumerate(read)]
    flat = image.reshape(-1)
    # views[k][c]: channel k from its first voxel on, and from that voxel's neighbours on.
    views = [
        [flat[k * math.prod(read) + sum(far) :] for far in product(*((0, s) for s in steps))] for k in range(image.shape[1])
    ]
    known, labels, frame = None, [], []
    if target is not None:
        # A frame of IGNORE answers for everything beyond the region.
        framed = F.pad(target, [1, 1] * n, value=IGNORE)
        frame = list(framed.shape)
        labels = [framed.reshape(-1)[k * math.prod(frame[2:]) :] for k in range(frame[1])]
        known = target.new_empty((*target.shape[:2], *grid.patch))
    for some, rows, at in grid.blocks():
        if known is not None:
            index = _places(at + 1.5, frame, [f - 1 for f in frame[2:]], some.start)
            for k, label in enumerate(labels):
                known[some, k, rows] = label.index_select(0, index.view(-1)).view(index.shape)
        index = _places(at, image.shape, last, some.start)
        part = at.frac_()
        for k, view in enumerate(views):
            values = [corner.index_select(0, index.view(-1)).view(index.shape) for corner in view]
            for axis in reversed(range(1, n)):
                values = [near.lerp_(far, part[:, axis]) for near, far in zip(values[::2], values[1::2], strict=True)]
            torch.lerp(values[0], values[1], part[:, 0], out=out[some, k, rows])
    return out, known


def _places(at: Tensor, shape: Sequence[int], last: Sequence[float], sample: int) -> Tensor:
    """(S, ...) flat indices into (B, C, *s) of channel 0 at coordinates (S, n, ...), which are first limited to [0, last], in
    place, and then cut to whole numbers; for the samples from number `sample` on."""
    for axis, end in enumerate(last):
        at[:, axis].clamp_(0, end)
    whole = at.to(torch.int32 if math.prod(shape) < 2**31 else torch.int64)
    index = torch.arange(sample, sample + len(at), device=at.device, dtype=whole.dtype).mul_(shape[1])
    index = _column(index, whole[:, 0])
    for axis, size in enumerate(shape[2:]):
        index = torch.add(whole[:, axis], index, alpha=size)
    return index


def _affine(batch: int, n: int, how: Augment, draw: torch.Generator, device: torch.device) -> tuple[Tensor, bool]:
    """(B, n, n) matrices in array-axis order that map output to input offsets in mm, and whether any differs from identity."""
    matrix = torch.eye(n, device=device).repeat(batch, 1, 1)
    if how.probability == 0:
        return matrix, False
    moved = how.shift > 0 or how.scale > 0 or bool(how.mirror) or any(how.rotation)
    planes = [(0, 1)] if n == 2 else [(1, 2), (0, 2), (0, 1)]
    for (a, b), limit in zip(planes, how.rotation, strict=False):
        if limit == 0:
            continue
        angle = _uniform((batch,), math.radians(limit), draw, device) * _chosen(batch, how, draw, device)
        turn = torch.eye(n, device=device).repeat(batch, 1, 1)
        turn[:, a, a] = turn[:, b, b] = angle.cos()
        turn[:, a, b] = -angle.sin()
        turn[:, b, a] = angle.sin()
        matrix = matrix @ turn
    zoom = 1 + _uniform((batch,), how.scale, draw, device) * _chosen(batch, how, draw, device)
    matrix = matrix / zoom[:, None, None]
    for axis in how.mirror:
        sign = torch.where(torch.rand(batch, generator=draw, device=device) < 0.5, -1.0, 1.0)
        matrix[:, axis, :] = matrix[:, axis, :] * sign[:, None]
    return matrix, moved


def _bend(
    batch: int, patch: tuple[int, ...], how: Augment, draw: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Displacements in voxels, linear between random knots and zero where not chosen: (B, n, *patch[:-1], k) and
    (k, patch[-1]), whose product they are."""
    counts = [max(2, min(6, p // 8)) for p in patch]
    knots = torch.randn((batch, len(patch), *counts), generator=draw, device=device) * how.elastic
    knots = knots * _column(_chosen(batch, how, draw, device), knots)
    spreads = [_spread(k, p, device) for k, p in zip(counts, patch, strict=True)]
    for axis, spread in enumerate(spreads[:-1], start=2):
        knots = (knots.movedim(axis, -1) @ spread).movedim(-1, axis)
    return knots, spreads[-1]


def _spread(knots: int, size: int, device: torch.device) -> Tensor:
    """(knots, size) weights of linear interpolation, the first and last knot on the first and last voxel."""
    at = torch.linspace(0, knots - 1, size, device=device)
    return (1 - (at - torch.arange(knots, device=device)[:, None]).abs()).clamp_min(0)


def _soften(image: Tensor, how: Augment, draw: torch.Generator) -> Tensor:
    """Gaussian blur and coarser resolution of the chosen samples, in place."""
    batch, n = len(image), image.ndim - 2
    if how.blur > 0 and how.probability > 0:
        sigma = torch.rand(batch, generator=draw, device=image.device) * how.blur
        few = _chosen(batch, how, draw, image.device).nonzero()[:, 0]
        at = torch.arange(max(1, round(2.5 * how.blur)) + 1, device=image.device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (at / sigma[few].clamp_min(1e-2)[:, None]) ** 2)
        kernel = kernel / (2 * kernel.sum(dim=1, keepdim=True) - 1)
        some = image.index_select(0, few)
        for axis in range(n):
            some = _convolve(some, kernel, axis)
        image.index_copy_(0, few, some)
    if how.low_resolution > 1 and how.probability > 0:
        factor = 1 + float(torch.rand(1, generator=draw, device=image.device)) * (how.low_resolution - 1)
        few = _chosen(batch, how, draw, image.device).nonzero()[:, 0]
        if len(few):
            mode = "trilinear" if n == 3 else "bilinear"
            small = [max(1, round(s / factor)) for s in image.shape[2:]]
            # Not "nearest", which takes the first voxel of each block and so moves the image against its target.
            coarse = F.interpolate(image.index_select(0, few), size=small, mode="nearest-exact")
            image.index_copy_(0, few, F.interpolate(coarse, size=image.shape[2:], mode=mode))
    return image


def _convolve(image: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Each sample (B, C, *s) with its own symmetric kernel along one spatial axis, of which (B, 1 + radius) is the half from
    the middle on; border repeated."""
    batch, size = len(image), image.shape[2 + axis]
    line = image.reshape(batch, math.prod(image.shape[1 : 2 + axis]), size, math.prod(image.shape[3 + axis :]))
    middle, *others = kernel[..., None, None, None].unbind(1)
    out = line * middle
    for k, weight in enumerate(others, start=1):
        inside, outside = max(size - k, 0), min(size, k)
        out[:, :, outside:].addcmul_(line[:, :, :inside], weight)
        out[:, :, :outside].addcmul_(line[:, :, :1], weight)
        out[:, :, :inside].addcmul_(line[:, :, outside:], weight)
        out[:, :, inside:].addcmul_(line[:, :, -1:], weight)
    return out.reshape(image.shape)


def _recolour(image: Tensor, how: Augment, draw: torch.Generator) -> Tensor:
    """Noise, brightness, contrast and gamma, each for the chosen samples, in place; gamma keeps each sample's range."""
    if how.probability == 0:
        return image
    batch, device = len(image), image.device
    if how.contrast > 0 or how.brightness > 0:
        gain = _column(1 + _uniform((batch,), how.contrast, draw, device) * _chosen(batch, how, draw, device), image)
        lift = _column(_uniform((batch,), how.brightness, draw, device) * _chosen(batch, how, draw, device), image)
        mean = image.mean(dim=tuple(range(2, image.ndim)), keepdim=True)
        image.mul_(gain).add_(mean * (1 - gain) + lift)
    if how.gamma > 0:
        power = torch.exp(_uniform((batch,), how.gamma, draw, device))
        few = _chosen(batch, how, draw, device).nonzero()[:, 0]
        if len(few):
            some = image.index_select(0, few)
            axes = tuple(range(1, image.ndim))
            low, high = some.amin(dim=axes, keepdim=True), some.amax(dim=axes, keepdim=True)
            unit = some.sub_(low).div_((high - low).clamp_min(1e-6))
            # exp2 and log2 are vectorised and take half of the time of a power; log2(0) is -inf, whose exp2 is 0 again.
            curved = unit.log2_().mul_(_column(power[few], some)).exp2_()
            image.index_copy_(0, few, curved.mul_(high - low).add_(low))
    if how.noise > 0:
        sigma = torch.rand(batch, generator=draw, device=device) * how.noise
        few = _chosen(batch, how, draw, device).nonzero()[:, 0]
        noise = torch.randn((len(few), *image.shape[1:]), generator=draw, device=device)
        image.index_add_(0, few, noise.mul_(_column(sigma[few], noise)))
    return image


def _uniform(shape: tuple[int, ...], limit: float, draw: torch.Generator, device: torch.device) -> Tensor:
    """Uniform in [-limit, limit]."""
    return (2 * torch.rand(shape, generator=draw, device=device) - 1) * limit


def _chosen(batch: int, how: Augment, draw: torch.Generator, device: torch.device) -> Tensor:
    """(B,) 1.0 with the plan's probability, else 0.0."""
    return (torch.rand(batch, generator=draw, device=device) < how.probability).float()


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) to broadcast over `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
