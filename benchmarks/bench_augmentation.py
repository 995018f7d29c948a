"""Augmentation of a batch of patches with its label maps: the same changes, each chosen with the same probability.

On one thread each: the peers augment in many single-threaded worker processes, so that the time per core is what compares.
Usage: python benchmarks/bench_augmentation.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from torch import Tensor

from hounsfield.core.plan import Augment
from hounsfield.data.augment import augment, generator, margin

BATCH = 2
# Patch, batches in one timed call (what is drawn differs from batch to batch), seconds.
SIZES = (((40, 56, 40), 8, 28.0), ((96, 96, 96), 2, 50.0))
P = 0.5
HOW = Augment(probability=P, rotation=(15.0, 15.0, 15.0), mirror=(2,), elastic=1.0, low_resolution=1.5)
STILL = HOW.model_copy(update={"elastic": 0.0})
LEAST = {"batchgeneratorsv2": 2.0, "MONAI": 8.0}  # times ours, with all the changes

RAN = "`augment` on the whole batch; affine and elastic fused into one resampling of a region with a margin"
NNUNET = (
    "SpatialTransform (rotation, scaling{elastic}; one resampling of the same region; labels by nearest neighbour; the shift "
    "is its loader's random crop and not timed), GaussianNoise, GaussianBlur(benchmark=True), MultiplicativeBrightness, "
    "Contrast, SimulateLowResolution, Gamma(p_retain_stats=1), Mirror"
)
MONAI = (
    "RandAffined (rotation, scaling, shift){elastic}, RandFlipd, RandGaussianNoised, RandGaussianSmoothd, RandShiftIntensityd, "
    "RandScaleIntensityFixedMeand, RandSimulateLowResolutiond, RandAdjustContrastd, on the patch itself, without a margin"
)
TORCHIO = (
    "RandomAffine (rotation, scaling, translation){elastic}, RandomFlip, RandomNoise, RandomBlur, RandomAnisotropy (along one "
    "axis), RandomGamma, on the patch itself; it has no brightness and contrast"
)


def nnunet(patch: tuple[int, ...], how: Augment) -> Callable[[Tensor, Tensor], object]:
    """nnU-Net's transforms, (C, *region) and (1, *region) at a time."""
    of = {
        name: getattr(peer(f"batchgeneratorsv2.transforms.{module}"), f"{name}Transform")
        for module, name in (
            ("spatial.spatial", "Spatial"),
            ("noise.gaussian_blur", "GaussianBlur"),
            ("intensity.gaussian_noise", "GaussianNoise"),
            ("intensity.brightness", "MultiplicativeBrightness"),
            ("intensity.contrast", "Contrast"),
            ("spatial.low_resolution", "SimulateLowResolution"),
            ("intensity.gamma", "Gamma"),
            ("spatial.mirroring", "Mirror"),
            ("utils.random", "Random"),
        )
    }
    turn = math.radians(how.rotation[0])
    spatial = of["Spatial"](
        patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=P if how.elastic else 0,
        elastic_deform_scale=(0.1, 0.2),
        elastic_deform_magnitude=(0, 2 * how.elastic),
        p_rotation=P,
        rotation=(-turn, turn),
        p_scaling=P,
        scaling=(1 - how.scale, 1 + how.scale),
        p_synchronize_scaling_across_axes=1,
        mode_seg="nearest",
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    alike = {"synchronize_channels": True, "p_per_channel": 1}
    others = [
        of["GaussianNoise"](noise_variance=(0, how.noise), **alike),
        of["GaussianBlur"](blur_sigma=(0.05, how.blur), synchronize_axes=True, benchmark=True, **alike),
        of["MultiplicativeBrightness"](multiplier_range=(1 - how.brightness, 1 + how.brightness), **alike),
        of["Contrast"](contrast_range=(1 - how.contrast, 1 + how.contrast), preserve_range=True, **alike),
        of["SimulateLowResolution"](
            scale=(1 / how.low_resolution, 1), synchronize_axes=True, ignore_axes=None, allowed_channels=None, **alike
        ),
        of["Gamma"](gamma=(math.exp(-how.gamma), math.exp(how.gamma)), p_invert_image=0, p_retain_stats=1, **alike),
    ]
    steps = [spatial, *(of["Random"](step, apply_probability=P) for step in others), of["Mirror"](allowed_axes=how.mirror)]
    together = peer("batchgeneratorsv2.transforms.utils.compose").ComposeTransforms(steps)

    def run(image: Tensor, label: Tensor) -> object:
        return [together(image=i.clone(), segmentation=t.short()) for i, t in zip(image, label, strict=True)]

    return run


def monai(patch: tuple[int, ...], how: Augment) -> Callable[[Tensor, Tensor], object]:
    """MONAI's dictionary transforms, one sample at a time."""
    t = peer("monai.transforms")
    both: dict[str, Any] = {"keys": ["image", "label"], "mode": ["bilinear", "nearest"], "padding_mode": "border"}
    turn = math.radians(how.rotation[0])
    steps = [
        t.RandAffined(
            prob=P, rotate_range=(turn,) * 3, scale_range=(how.scale,) * 3,
            translate_range=tuple(how.shift * p for p in patch), **both,
        )
    ]  # fmt: skip
    if how.elastic:
        steps.append(t.Rand3DElasticd(prob=P, sigma_range=(5, 8), magnitude_range=(50, 100), **both))
    steps += [
        t.RandFlipd(keys=["image", "label"], prob=0.5, spatial_axis=how.mirror[0]),
        t.RandGaussianNoised(keys=["image"], prob=P, std=how.noise),
        t.RandGaussianSmoothd(keys=["image"], prob=P, **{f"sigma_{axis}": (0.05, how.blur) for axis in "xyz"}),
        t.RandShiftIntensityd(keys=["image"], prob=P, offsets=how.brightness),
        t.RandScaleIntensityFixedMeand(keys=["image"], prob=P, factors=how.contrast),
        t.RandSimulateLowResolutiond(keys=["image"], prob=P, zoom_range=(1 / how.low_resolution, 1)),
        t.RandAdjustContrastd(keys=["image"], prob=P, gamma=(math.exp(-how.gamma), math.exp(how.gamma))),
    ]
    together = t.Compose(steps)

    def run(image: Tensor, label: Tensor) -> object:
        return [together({"image": i, "label": t}) for i, t in zip(image, label, strict=True)]

    return run


def torchio(patch: tuple[int, ...], how: Augment) -> Callable[[Tensor, Tensor], object]:
    """TorchIO's transforms, one subject at a time."""
    tio = peer("torchio")
    scale, turn = how.scale, how.rotation[0]
    shift = tuple(bound for p in patch for bound in (-how.shift * p, how.shift * p))
    steps = [tio.RandomAffine(scales=(1 - scale, 1 + scale), degrees=turn, translation=shift, isotropic=True, p=P)]
    if how.elastic:
        steps.append(tio.RandomElasticDeformation(num_control_points=6, max_displacement=2 * how.elastic, p=P))
    steps += [
        tio.RandomFlip(axes=how.mirror, flip_probability=0.5),
        tio.RandomNoise(std=(0, how.noise), p=P),
        tio.RandomBlur(std=(0.05, how.blur), p=P),
        tio.RandomAnisotropy(downsampling=(1.0, how.low_resolution), p=P),
        tio.RandomGamma(log_gamma=(-how.gamma, how.gamma), p=P),
    ]
    together = tio.Compose(steps)

    def run(image: Tensor, label: Tensor) -> object:
        pairs = zip(image, label, strict=True)
        return [together(tio.Subject(image=tio.ScalarImage(tensor=i), label=tio.LabelMap(tensor=t))) for i, t in pairs]

    return run


def measure() -> list[Table]:
    """Both sizes, with and without elastic deformation."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - batchgeneratorsv2 draws from it
    peer("monai.utils").set_determinism(0)
    return [case(patch, how, batches, seconds / 2) for patch, batches, seconds in SIZES for how in (HOW, STILL)]


def case(patch: tuple[int, ...], how: Augment, batches: int, seconds: float) -> Table:
    region = margin(patch, how)
    image = torch.randn(BATCH, 1, *region)
    label = torch.randint(0, 4, (BATCH, 1, *region)).to(torch.uint8)
    corner = [(r - p) // 2 for r, p in zip(region, patch, strict=True)]
    cut = (slice(None), slice(None), *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))
    patches = (image[cut].contiguous(), label[cut].contiguous())
    seeds = iter(range(10**9))
    peers = {"batchgeneratorsv2": nnunet, "MONAI": monai, "TorchIO": torchio}
    calls = {name: (build(patch, how), (image, label) if build is nnunet else patches) for name, build in peers.items()}
    for _ in range(20):  # its blur measures two ways for each kernel size that it meets, once
        calls["batchgeneratorsv2"][0](*patches)

    def ours() -> None:
        for _ in range(batches):
            augment(image, label, patch, (1.0, 1.0, 1.0), how, generator("cpu", next(seeds)))

    def theirs(name: str) -> Callable[[], object]:
        run, given = calls[name]
        return lambda: [run(*given) for _ in range(batches)]

    timings = side_by_side({OURS: ours, **{name: theirs(name) for name in peers}}, seconds)
    bent = ", elastic" if how.elastic else ""
    said = {
        OURS: RAN,
        "batchgeneratorsv2": NNUNET.format(elastic=bent),
        "MONAI": MONAI.format(elastic=", Rand3DElasticd" if bent else ""),
        "TorchIO": TORCHIO.format(elastic=", RandomElasticDeformation" if bent else ""),
    }
    return Table(
        f"Augmentation of {by(patch)}{'' if bent else ', without elastic deformation'}",
        f"{BATCH} samples of one channel and labels; each change with probability {P}; region read: {by(region)}. One thread.",
        f"{batches} batches",
        tuple(Row(name, timing, said[name]) for name, timing in timings.items()),
        LEAST if bent else {},
    )


if __name__ == "__main__":
    alone(measure)
