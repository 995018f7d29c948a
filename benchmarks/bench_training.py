"""A training step: forward pass, deeply supervised loss, backward pass, clipped optimiser step, on two networks of one shape.

Usage: python benchmarks/bench_training.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from torch import Tensor, nn

from hounsfield.models import unet
from hounsfield.tasks.parts import losses

PATCH = (40, 56, 40)
BATCH = 2
CLASSES = 3
WIDTH = 16
LEVELS = 4  # so three steps of two
SECONDS = 25.0  # for each precision

Loss = Callable[[Sequence[Tensor]], Tensor]


def hounsfield(label: Tensor) -> tuple[nn.Module, Loss]:
    options = unet.Options(width=WIDTH, strides=((2,),) * (LEVELS - 1), blocks=(2,), decoder_blocks=2)
    net = unet.build(options, 1, CLASSES + 1, len(PATCH))
    return net, lambda maps: losses.deep(losses.exclusive_overlap, tuple(maps), label[:, 0], 1.0)


def nnunet(label: Tensor) -> tuple[nn.Module, Loss]:
    """As its planner and trainer build them: He's weights, biases, its loss at all scales but the coarsest."""
    unet_of = peer("dynamic_network_architectures.architectures.unet").PlainConvUNet
    compound, dice, deep = (peer(f"nnunetv2.training.loss.{name}") for name in ("compound_losses", "dice", "deep_supervision"))
    net: nn.Module = unet_of(
        input_channels=1,
        n_stages=LEVELS,
        features_per_stage=[WIDTH * 2**level for level in range(LEVELS)],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (LEVELS - 1),
        n_conv_per_stage=2,
        n_conv_per_stage_decoder=2,
        num_classes=CLASSES + 1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    net.apply(unet_of.initialize)
    one = compound.DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=dice.MemoryEfficientSoftDiceLoss
    )
    # Its trainer's weights: halving, none for the coarsest of its maps, summing to 1.
    weights = [0.5**k for k in range(LEVELS - 2)] + [0.0]
    loss = deep.DeepSupervisionWrapper(one, [w / sum(weights) for w in weights])
    # Its loader thins the labels in worker processes, so that is not part of a step.
    labels = [label[:, :, :: 2**k, :: 2**k, :: 2**k].float() for k in range(LEVELS - 1)]

    def of(maps: Sequence[Tensor]) -> Tensor:
        total: Tensor = loss(list(maps), labels)
        return total

    return net, of


def step(net: nn.Module, loss: Loss, image: Tensor, half: bool) -> Callable[[], None]:
    """One training step in fp32, or with a forward pass in bfloat16."""
    optimiser = torch.optim.AdamW(net.train().parameters(), lr=1e-3, fused=True)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            value = loss(net(image))
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()

    return run


def measure() -> list[Table]:
    """fp32 and bfloat16."""
    torch.manual_seed(0)
    image = torch.randn(BATCH, 1, *PATCH)
    label = torch.randint(0, CLASSES + 1, (BATCH, 1, *PATCH)).to(torch.uint8)
    ran = {
        OURS: "`unet` and `losses.exclusive_overlap` at all scales, labels thinned within the step",
        "nnU-Net": "`PlainConvUNet` and `DC_and_CE_loss` at its trainer's scales, labels thinned beforehand",
    }
    tables = []
    for half, precision in ((False, "fp32"), (True, "bfloat16")):
        calls, weights = {}, {}
        for name, build in ((OURS, hounsfield), ("nnU-Net", nnunet)):
            net, loss = build(label)
            calls[name] = step(net, loss, image, half)
            weights[name] = f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} million"
        about = (
            f"{BATCH} patches of {by(PATCH)}, {CLASSES} classes and background, {LEVELS} levels of {WIDTH} to "
            f"{WIDTH * 2 ** (LEVELS - 1)} channels with two convolutions each way, instance norm, deep supervision, "
            f"fused AdamW; {torch.get_num_threads()} threads."
        )
        timings = side_by_side(calls, SECONDS)
        rows = tuple(Row(name, timing, ran[name], {"weights": weights[name]}) for name, timing in timings.items())
        tables.append(Table(f"Training step in {precision}", about, "one step", rows))
    return tables


if __name__ == "__main__":
    alone(measure)
