"""Attention beside torch's own module and MONAI's: time and peak memory of forward and backward, sequences of 256 to 16,384.

Usage: python benchmarks/attention.py [LENGTH...]. With NAME LENGTH THREADS it is one contender in a process of its own, and
prints by how many bytes its peak rose.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_inference import peak_now
from bench_timing import OURS, Row, Table, peer, side_by_side
from torch import Tensor, nn

from hounsfield.models.parts.attention import MultiHeadAttention

LENGTHS = [256, 1024, 4096, 16384]
BATCH, WIDTH, HEADS = 1, 192, 3  # those of the published tiny vision transformer
TOLERANCE = 1e-5
TORCH, FUSED, PLAIN = "torch", "MONAI, fused", "MONAI"
MOST_PLAIN = 4096  # places up to which what keeps all weights is asked: 16,384 would keep 3 GiB of them, more than once
SECONDS = 20.0
RAN = {
    OURS: "`MultiHeadAttention`, self-attention",
    TORCH: "`torch.nn.MultiheadAttention`, batch_first, need_weights=False",
    FUSED: "`SABlock`, qkv_bias, use_flash_attention",
    PLAIN: "`SABlock`, qkv_bias, as it comes",
}


def ours() -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(HEADS, WIDTH, 0.0)


def torch_s() -> Callable[[Tensor], Tensor]:
    """With our weights."""
    mine, module = ours(), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    weights = {"in_proj_weight": mine.qkv.weight, "in_proj_bias": mine.qkv.bias}
    weights |= {f"out_proj.{name}": value for name, value in mine.out.state_dict().items()}
    module.load_state_dict(weights)

    def call(x: Tensor) -> Tensor:
        out: Tensor = module(x, x, x, need_weights=False)[0]
        return out

    return call


def monai_s(fused: bool) -> Callable[[Tensor], Tensor]:
    """With our weights."""
    block: Any = peer("monai.networks.blocks").SABlock(WIDTH, HEADS, qkv_bias=True, use_flash_attention=fused)
    mine = ours()
    block.qkv.load_state_dict(mine.qkv.state_dict())
    block.out_proj.load_state_dict(mine.out.state_dict())

    def call(x: Tensor) -> Tensor:
        out: Tensor = block(x)
        return out

    return call


MAKERS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    OURS: ours,
    TORCH: torch_s,
    FUSED: lambda: monai_s(True),
    PLAIN: lambda: monai_s(False),
}


def image(length: int) -> Tensor:
    """(BATCH, length, WIDTH)"""
    return torch.randn(BATCH, length, WIDTH, generator=torch.Generator().manual_seed(1), requires_grad=True)


def step(attention: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    def run() -> None:
        x.grad = None
        torch.autograd.backward(attention(x).square().mean())

    return run


def peak_bytes(name: str, length: int, threads: int) -> int:
    """By how much one step raises the peak of resident memory, in a process of its own."""
    line = [sys.executable, str(Path(__file__)), name, str(length), str(threads)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def measure(length: int) -> Table:
    """Raises SystemExit where the contenders do not compute the same."""
    names = [name for name in MAKERS if name != PLAIN or length <= MOST_PLAIN]
    made, x = {name: MAKERS[name]() for name in names}, image(length)
    with torch.no_grad():
        expected = made[OURS](x)
        difference = max(float((made[name](x) - expected).abs().max()) for name in names)
    if not difference <= TOLERANCE:
        raise SystemExit(f"attention of {length}: results differ by {difference}, expected at most {TOLERANCE}")
    timings = side_by_side({name: step(attention, x) for name, attention in made.items()}, SECONDS)
    threads = torch.get_num_threads()
    memory = {name: f"{peak_bytes(name, length, threads) / 2**20:.0f} MiB" for name in names}
    about = (
        f"{BATCH} sequence of {length:,} places, width {WIDTH}, {HEADS} heads, 32-bit floats; {threads} threads. "
        f"Results of all differ by at most {difference:.0e}."
    )
    rows = tuple(Row(name, timings[name], RAN[name], {"rise of peak memory": memory[name]}) for name in names)
    return Table(f"Attention, {length:,} places", about, "forward and backward", rows)


def main(arguments: list[str]) -> None:
    if len(arguments) == 3 and arguments[0] in MAKERS:
        name, length, threads = arguments
        torch.set_num_threads(int(threads))
        attention = MAKERS[name]()
        step(attention, image(16))()  # what the first step of all takes
        x = image(int(length))
        before = peak_now()
        step(attention, x)()
        sys.stdout.write(f"{peak_now() - before}\n")
        return
    for places in [int(argument) for argument in arguments] or LENGTHS:
        sys.stdout.write("\n".join(measure(places).lines()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
