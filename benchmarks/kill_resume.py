"""Kill a CPU training at random moments, resume it, and compare its weights bit by bit with an undisturbed run.

Usage: python benchmarks/kill_resume.py [--kills 10] [--steps 150] [--seed 0] [DATA]; without DATA on 2D phantoms.
Prints one JSON document. Exit 1 where a resume failed or a bit differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "hounsfield", "train", str(data), "--out", str(out), "--seed", "0", "--device", "cpu", *more]


def fingerprint(run: Path) -> str:
    return hashlib.sha256(next(run.glob("members/*/weights.safetensors")).read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["HOUNSFIELD_CACHE"] = str(folder / "cache")
        data = given.data
        if data is None:
            from hounsfield.data.phantoms import write_dataset

            data = folder / "phantoms"
            write_dataset(data, "segmentation", ndim=2, n=24, seed=0)
        begun = time.monotonic()
        subprocess.run(command(data, folder / "whole", "--budget", f"{given.steps}steps"), check=True, capture_output=True)
        whole = time.monotonic() - begun
        draw = random.Random(given.seed)
        plan = ("--plan", str(folder / "whole" / "plan.json"))
        moments, steps = [], []
        for _ in range(given.kills):
            moment = draw.uniform(0.05, 1.1) * whole / 3
            process = subprocess.Popen(
                command(data, folder / "killed", *plan, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
            moments.append(round(moment, 2))
            log = folder / "killed" / "members" / "0-0" / "metrics.jsonl"
            steps.append(len(log.read_text().splitlines()) if log.exists() else 0)
        last = subprocess.run(command(data, folder / "killed", *plan, "--resume"), check=False, capture_output=True, text=True)
        same = last.returncode == 0 and fingerprint(folder / "whole") == fingerprint(folder / "killed")
        result = {
            "undisturbed_seconds": round(whole, 1),
            "killed_after_seconds": moments,
            "steps_done_when_killed": steps,
            "resumed": last.returncode == 0,
            "identical": same,
            "error": last.stderr[-500:] if last.returncode else "",
        }
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
