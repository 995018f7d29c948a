"""Damaged files by the thousand: every format's small files are changed and read in a process of limited memory and time.

Usage: python benchmarks/fuzz.py [--mutations 10000] [--seed 0] [--out runs/fuzz]

Prints a table of outcomes. Ends with 1 where something came out that is neither an image nor a typed error; the files that did
it stay in OUT.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.io.fuzzing import run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fuzz")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    begun = time.monotonic()

    def progress(done: int) -> None:
        if done % 1000 == 0:
            sys.stderr.write(f"{done} of {given.mutations}, {time.monotonic() - begun:.0f} s\n")

    result = run(given.out, given.mutations, given.seed, progress)
    lines = ["| outcome | files |", "|---|---|"]
    lines += [f"| {outcome} | {count} |" for outcome, count in result.outcomes.most_common()]
    lines += ["", f"{given.mutations} damaged files, seed {given.seed}, {time.monotonic() - begun:.0f} s"]
    lines += [f"- {kept.name}: {what}" for kept, what in result.faults]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
