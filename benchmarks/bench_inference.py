"""Windowed inference of a large volume: time in one process, results compared, peak memory each in a process of its own.

Usage: python benchmarks/bench_inference.py. With the arguments NAME THREADS it is such a process, and prints by how many bytes
its peak rose.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from torch import Tensor, nn

from hounsfield.tasks.parts.windows import slabs

SHAPE = (160, 192, 160)
PATCH = (64, 64, 64)  # windows of both then begin at the same voxels
OVERLAP = 0.5
CLASSES = 14
TOLERANCE = 1e-5
CPU = torch.device("cpu")


def network() -> nn.Module:
    """Small, so that what is around the network is seen."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.LeakyReLU(inplace=True), nn.Conv3d(8, CLASSES, 1)).eval()


def volume() -> Tensor:
    """(1, *SHAPE)"""
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(1))


def labels_of(scores: Tensor) -> Tensor:
    """(K, *s) -> (*s). Not argmax, which on CPU takes four times as long."""
    return scores.max(dim=0).indices.to(torch.uint8)


def hounsfield(net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        labels = torch.empty(SHAPE, dtype=torch.uint8)
        for start, first, scores in slabs(net, x, PATCH, OVERLAP, CLASSES, CPU):
            labels[start : start + scores.shape[1], first : first + scores.shape[2]] = labels_of(scores)
        return labels

    return run


def monai_scores(net: nn.Module, x: Tensor) -> Tensor:
    infer = peer("monai.inferers").sliding_window_inference
    scores: Tensor = infer(x[None], PATCH, 1, net, overlap=OVERLAP, mode="gaussian", sigma_scale=0.125)[0]
    return scores


def monai(net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return lambda: labels_of(monai_scores(net, x))


CONTENDERS = {OURS: hounsfield, "MONAI": monai}


def largest_difference(net: nn.Module, x: Tensor) -> float:
    """Between both results, over all voxels and classes."""
    expected = monai_scores(net, x)
    return max(
        float((scores - expected[:, start : start + scores.shape[1], first : first + scores.shape[2]]).abs().max())
        for start, first, scores in slabs(net, x, PATCH, OVERLAP, CLASSES, CPU)
    )


def peak_bytes(name: str, threads: int) -> int:
    """By how much one inference raises the peak of resident memory."""
    line = [sys.executable, str(Path(__file__)), name, str(threads)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def measure() -> list[Table]:
    threads = torch.get_num_threads()
    with torch.inference_mode():
        net, x = network(), volume()
        difference = largest_difference(net, x)
        if difference > TOLERANCE:
            raise SystemExit(f"windowed inference: results differ by {difference}, expected at most {TOLERANCE}")
        timings = side_by_side({name: build(net, x) for name, build in CONTENDERS.items()}, seconds=40.0)
    memory = {name: f"{peak_bytes(name, threads) / 2**20:.0f} MiB" for name in CONTENDERS}
    ran = {OURS: "`slabs`", "MONAI": "`sliding_window_inference`, mode gaussian, sigma_scale 0.125, sw_batch_size 1"}
    about = (
        f"{by(SHAPE)} voxels, windows of {by(PATCH)} overlapping by {OVERLAP:.0%}, two convolutions, "
        f"{CLASSES} classes, to the label of every voxel; {threads} threads. Scores of both differ by at most {difference:.0e}."
    )
    rows = tuple(Row(name, timing, ran[name], {"rise of peak memory": memory[name]}) for name, timing in timings.items())
    return [Table("Windowed inference", about, "one volume", rows)]


def peak_now() -> int:
    """Bytes, on Linux. Not `ru_maxrss`, which a process inherits from the one that starts it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def main(name: str, threads: int) -> None:
    torch.set_num_threads(threads)
    with torch.inference_mode():
        net, x = network(), volume()
        run = CONTENDERS[name](net, x)
        if name != OURS:
            peer("monai.inferers")  # its import is not what is measured
        net(x[None, :, :64, :64, :64])
        before = peak_now()
        run()
        sys.stdout.write(f"{peak_now() - before}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]))
    else:
        alone(measure)
