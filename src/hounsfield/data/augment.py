"""Augmentation of a whole batch on its device: one fused resampling in space, then changes of intensity.

Every draw comes from the generator that is passed in, so a batch is a pure function of its seed. Angles and zooms act in
millimetres: anisotropic voxels are rotated as the body is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Augment
from hounsfield.data.prepare import IGNORE


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


def _move(
    image: Tensor,
    target: Tensor | None,
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
    how: Augment,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    batch, read, n = len(image), image.shape[2:], len(patch)
    matrix, moved = _affine(batch, n, how, draw, image.device)
    scale = torch.tensor(spacing, device=image.device, dtype=torch.float32)
    matrix = matrix * scale / scale[:, None]  # from millimetres to voxels: S^-1 M S
    bent = how.elastic > 0 and how.probability > 0
    if not moved and not bent:
        window = (slice(None), slice(None), *[slice((r - p) // 2, (r - p) // 2 + p) for r, p in zip(read, patch, strict=True)])
        return image[window], None if target is None else target[window]
    size = torch.tensor(patch, device=image.device, dtype=torch.float32)
    whole = torch.tensor(read, device=image.device, dtype=torch.float32)
    offset = torch.tensor([(p - r) / 2 + (r - p) // 2 for r, p in zip(read, patch, strict=True)], device=image.device)
    shift = _uniform((batch, n), how.shift, draw, image.device) * size * _chosen(batch, how, draw, image.device)[:, None]
    theta = torch.cat([matrix * size / whole[:, None], (2 * (shift + offset) / whole)[..., None]], dim=-1)
    # grid_sample counts axes from the last; the affine was built in array order.
    theta = torch.cat([theta[:, :, :n].flip(1, 2), theta[:, :, n:].flip(1)], dim=-1)
    grid = F.affine_grid(theta, [batch, 1, *patch], align_corners=False)
    if bent:
        grid = grid + _bend(batch, patch, whole, how, draw, image.device)
    out = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if target is None:
        return out, None
    # Shifted so that zero padding reads as IGNORE.
    known = F.grid_sample(target.float() - IGNORE, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return out, (known + IGNORE).round().to(torch.uint8)


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
    batch: int, patch: tuple[int, ...], whole: Tensor, how: Augment, draw: torch.Generator, device: torch.device
) -> Tensor:
    """(B, *patch, n) smooth displacements in grid_sample coordinates, zero where not chosen."""
    n = len(patch)
    knots = [max(2, min(6, p // 8)) for p in patch]
    coarse = torch.randn((batch, n, *knots), generator=draw, device=device) * how.elastic
    smooth = F.interpolate(coarse, size=patch, mode="trilinear" if n == 3 else "bilinear", align_corners=True)
    smooth = smooth * _chosen(batch, how, draw, device).reshape(batch, *[1] * (n + 1))
    in_grid = smooth * (2 / whole).reshape(1, n, *[1] * n)
    return in_grid.flip(1).movedim(1, -1)


def _soften(image: Tensor, how: Augment, draw: torch.Generator) -> Tensor:
    """Gaussian blur and coarser resolution, each for the chosen samples."""
    batch, n = len(image), image.ndim - 2
    if how.blur > 0 and how.probability > 0:
        sigma = torch.rand(batch, generator=draw, device=image.device) * how.blur * _chosen(batch, how, draw, image.device)
        radius = max(1, round(2.5 * how.blur))
        at = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (at / sigma.clamp_min(1e-2)[:, None]) ** 2)
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
        for axis in range(n):
            image = _convolve(image, kernel, axis)
    if how.low_resolution > 1 and how.probability > 0:
        factor = 1 + float(torch.rand(1, generator=draw, device=image.device)) * (how.low_resolution - 1)
        mode = "trilinear" if n == 3 else "bilinear"
        small = [max(1, round(s / factor)) for s in image.shape[2:]]
        # Not "nearest", which takes the first voxel of each block and so moves the image against its target.
        coarse = F.interpolate(F.interpolate(image, size=small, mode="nearest-exact"), size=image.shape[2:], mode=mode)
        image = torch.where(_column(_chosen(batch, how, draw, image.device), image) > 0, coarse, image)
    return image


def _convolve(image: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Each sample (B, C, *s) with its own kernel (B, k) along one spatial axis, border repeated."""
    batch, size, radius = len(image), image.shape[2 + axis], kernel.shape[1] // 2
    line = image.reshape(batch, math.prod(image.shape[1 : 2 + axis]), size, math.prod(image.shape[3 + axis :]))
    padded = F.pad(line, (0, 0, radius, radius), mode="replicate")
    out = torch.zeros_like(line)
    for k in range(kernel.shape[1]):
        out.addcmul_(padded[:, :, k : k + size], kernel[:, k].reshape(batch, 1, 1, 1))
    return out.reshape(image.shape)


def _recolour(image: Tensor, how: Augment, draw: torch.Generator) -> Tensor:
    """Noise, brightness, contrast and gamma, each for the chosen samples; gamma keeps each sample's range."""
    if how.probability == 0:
        return image
    batch, device = len(image), image.device
    if how.contrast > 0 or how.brightness > 0:
        axes = tuple(range(2, image.ndim))
        mean = image.mean(dim=axes, keepdim=True)
        gain = 1 + _uniform((batch,), how.contrast, draw, device) * _chosen(batch, how, draw, device)
        lift = _uniform((batch,), how.brightness, draw, device) * _chosen(batch, how, draw, device)
        image = (image - mean) * _column(gain, image) + mean + _column(lift, image)
    if how.gamma > 0:
        axes = tuple(range(1, image.ndim))
        low, high = image.amin(dim=axes, keepdim=True), image.amax(dim=axes, keepdim=True)
        power = torch.exp(_uniform((batch,), how.gamma, draw, device) * _chosen(batch, how, draw, device))
        unit = ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        image = unit ** _column(power, image) * (high - low) + low
    if how.noise > 0:
        sigma = torch.rand(batch, generator=draw, device=device) * how.noise * _chosen(batch, how, draw, device)
        image = image + torch.randn(image.shape, generator=draw, device=device) * _column(sigma, image)
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
