"""Hounsfield beside its peers in one run: `python benchmarks/bench.py`, or `make bench`, which installs them.

Usage: python benchmarks/bench.py [CASE...] [--page docs/benchmarks.md] [--out runs/bench]

Writes the page, if all cases ran, and OUT/bench.json. Ends with 1 where a required ratio was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import bench_augmentation
import bench_detection
import bench_dice
import bench_inference
import bench_loading
import bench_training
import torch
from bench_timing import TOGETHER, Table, peer

ROOT = Path(__file__).parents[1]
CASES: dict[str, Callable[[], list[Table]]] = {
    "augmentation": bench_augmentation.measure,
    "loading": bench_loading.measure,
    "training": bench_training.measure,
    "inference": bench_inference.measure,
    "detection": bench_detection.measure,
    "dice": bench_dice.measure,
}
PEERS = ("nnunetv2", "batchgeneratorsv2", "dynamic_network_architectures", "monai", "torchio", "torchvision")
OTHERS = ("torch", "numpy", "scipy", "blosc2")

INTRODUCTION = """# Benchmarks

Hounsfield beside nnU-Net, MONAI, TorchIO and torchvision, measured in one run by `make bench`, which also writes this page.
Contenders take turns, so that what slows the machine slows all of them; "times ours" is a contender's median over ours, above 1
where it takes longer. Data are made up: only time and memory are compared here, quality is in [results](results.md).
"""


def processor() -> str:
    """The name that the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def facts() -> dict[str, str]:
    """Machine, versions and date."""
    load = ", ".join(f"{a:.1f}" for a in os.getloadavg())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, no accelerator used",
        "memory": f"{memory_gib():.0f} GiB",
        "threads": f"{torch.get_num_threads()}, augmentation and loading on one",
        "load of the machine before the run": f"{load} processes over 1, 5, 15 minutes",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "Hounsfield": metadata.version("hounsfield"),
        "peers": ", ".join(f"{name} {metadata.version(name)}" for name in PEERS),
        "shared": ", ".join(f"{name} {metadata.version(name)}" for name in OTHERS),
        "command": "`make bench`",
    }


def page(about: dict[str, str], tables: list[Table], seconds: float) -> str:
    """The whole page in Markdown."""
    known = [*about.items(), ("time of the run", f"{seconds / 60:.1f} minutes")]
    machine = ["## Machine and versions", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in known), ""]
    lines = [line for table in tables for line in table.lines()]
    return "\n".join([INTRODUCTION, *machine, "## Cases", "", *lines]).rstrip() + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    given = parser.parse_args()
    for name in given.cases:
        if name not in CASES:
            parser.error(f"found {name}, expected one of {', '.join(CASES)}")
    return given


def main() -> int:
    given = arguments()
    for name in PEERS:  # before the first minute has passed
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{name} is not installed; it belongs to the extra 'bench': {TOGETHER}") from None
    peer("monai")
    about, begun, threads = facts(), time.monotonic(), torch.get_num_threads()
    tables: list[Table] = []
    for name in given.cases or CASES:
        torch.set_num_threads(threads)
        found = CASES[name]()
        sys.stdout.write("\n".join(line for table in found for line in table.lines()) + "\n")
        sys.stdout.flush()
        tables += found
    missed = [line for table in tables for line in table.missed()]
    seconds = time.monotonic() - begun
    record = {"about": about, "seconds": seconds, "missed": missed, "tables": [asdict(table) for table in tables]}
    write(given.out / "bench.json", json.dumps(record, indent=1))
    if not given.cases:
        write(given.page, page(about, tables, seconds))
    for line in missed:
        sys.stdout.write(f"missed: {line}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
