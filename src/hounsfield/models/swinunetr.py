"""Swin UNETR of the package MONAI: a map of scores of the input's size, windows of attention on the way down, in 2D and 3D.

Hatamizadeh et al., "Swin UNETR: Swin transformers for semantic segmentation of brain tumors in MRI images", BrainLes 2021.
Built as MONAI has it, with fresh weights. MONAI takes seconds to import and is imported only when the network is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hounsfield.core import plan
from hounsfield.core.errors import InputError
from hounsfield.models.parts.pyramid import check_size

OUTPUT: Literal["dense"] = "dense"

STRIDE = 32  # a patch of 2, halved four times
UNIT = 12  # channels, which the package asks for


class Options(plan.Options):
    """width: channels of the finest level (the package's feature_size; 48 in the paper), doubled at each of four coarser ones.
    window: places a side of the windows of attention."""

    width: int = Field(default=24, ge=UNIT, multiple_of=UNIT)
    window: int = Field(default=7, ge=2)


class SwinUNETR(nn.Module):
    """(B, C, *spatial) -> (B, K, *spatial) scores without softmax.

    Raises ValueError for sides that are no multiples of 32; InputError BAD_PLAN where all of them are 32, which leave the
    coarsest level a single voxel, where instance normalisation would erase all that was seen.
    """

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        make = _package("monai.networks.nets").SwinUNETR
        _package("einops")  # which the package leaves to its first use
        with _Ladder():
            self.network: nn.Module = make(
                in_channels=in_channels,
                out_channels=out_channels,
                feature_size=options.width,
                window_size=options.window,
                spatial_dims=ndim,
            )

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        check_size(sides, (STRIDE,) * len(sides))
        if max(sides) == STRIDE:
            raise InputError(
                "BAD_PLAN",
                "--model swinunetr",
                found=f"windows of {list(sides)}",
                expected=f"more than one step of {STRIDE} voxels along some axis, for its normalisation",
                fix="--set patch=" + str([2 * STRIDE] * len(sides)).replace(" ", ""),
            )
        out: Tensor = self.network(x)
        return out


class _Ladder(TorchFunctionMode):
    """Lets the package read its ladder of drop rates, numbers from `torch.linspace`, also where tensors have no storage."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **kwargs, device="cpu") if func is torch.linspace else func(*args, **kwargs)


def _package(name: str) -> Any:
    """Raises InputError MISSING_EXTRA."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            "MISSING_EXTRA",
            "--model swinunetr",
            found=f"no package {name.partition('.')[0]} ({error})",
            expected="the extra monai",
            fix="pip install 'hounsfield[monai]'",
        ) from error


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels, *spatial) scores without softmax. Raises InputError MISSING_EXTRA."""
    return SwinUNETR(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """32, the whole step of all levels."""
    return (STRIDE,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The published network has one shape."""
    return plan.Decision({})


def sizes(options: Options) -> tuple[Options, ...]:
    """The paper's width, half and a quarter of it."""
    return tuple(options.model_copy(update={"width": width}) for width in (48, 24, 12))
