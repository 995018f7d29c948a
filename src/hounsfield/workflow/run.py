"""The run directory: everything a run is, in JSON and safetensors, every file replaced by rename."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import hounsfield
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Plan
from hounsfield.data.dataset import Dataset
from hounsfield.data.mask_boxes import for_task, with_masks
from hounsfield.data.readers import open_dataset
from hounsfield.data.split import Split
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.io.limits import atomic
from hounsfield.models import MODELS
from hounsfield.plan.network import network
from hounsfield.tasks import TASKS, Solver, generation


class Run:
    """A run below `root`. Raises InputError NOT_A_RUN where there is no plan."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / "plan.json").is_file():
            raise InputError(
                "NOT_A_RUN",
                self.root,
                found="a folder without plan.json" if self.root.is_dir() else "no such folder",
                expected="a folder that hounsfield train wrote",
                fix="name the folder given to --out",
            )

    @classmethod
    def create(cls, root: str | Path, plan: Plan, split: Split, fingerprint: Fingerprint, record: Mapping[str, Any]) -> Run:
        """A new run, complete the moment it is there; replaces a run at `root` (see `refuse_existing`). record: `run.json`."""
        folder = Path(root)
        beside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # of a start that was killed
        write_text(beside / "plan.json", plan.to_json())
        write_text(beside / "split.json", split.to_json())
        write_text(beside / "fingerprint.json", fingerprint.model_dump_json(by_alias=True, indent=2) + "\n")
        write_json(beside / "run.json", record)
        write_json(beside / "environment.json", environment())
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
        return cls(folder)

    @cached_property
    def plan(self) -> Plan:
        return read_plan(self.root / "plan.json")

    @cached_property
    def split(self) -> Split:
        return Split.from_json(_text(self.root / "split.json"), self.root / "split.json")

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.parse(read_json(self.root / "fingerprint.json"), self.root / "fingerprint.json")

    @property
    def record(self) -> dict[str, Any]:
        """What the run was made from: data path, reader, command, notes (`run.json`)."""
        return read_json(self.root / "run.json")

    def dataset(self, choices: Choices = DEFAULT, plan: Plan | None = None) -> Dataset:
        """The data that the run was made from, read as they were then; `choices` go before those of then. plan: of another run
        whose task wants them otherwise.

        Raises what `open_dataset` raises, NOT_FOUND where the data have moved.
        """
        record = self.record
        then = Choices.parse(record.get("choices", {}), self.root / "run.json")
        found = open_dataset(Path(record["data"]), record.get("reader"), record.get("patient_regex"), choices.over(then))
        return as_planned(found, plan or self.plan)

    @property
    def members(self) -> list[Path]:
        """Folders of the trained members, by fold and seed."""
        found = (p.parent for p in (self.root / "members").glob("*/weights.safetensors"))
        return sorted(found, key=lambda folder: [int(number) for number in folder.name.split("-")])

    @property
    def solver(self) -> Solver:
        return TASKS.load(self.plan.task).Solver(self.plan)

    def models(self, device: torch.device, fold: int | None = None) -> list[nn.Module]:
        """Every member's network, or those of one fold, with its final weights, in evaluation mode.

        Raises InputError NOT_A_RUN, BAD_WEIGHTS.
        """
        members = [m for m in self.members if fold is None or m.name.startswith(f"{fold}-")]
        if not members:
            raise InputError(
                "NOT_A_RUN",
                self.root,
                found="no finished weights",
                expected="members/*/weights.safetensors",
                fix="finish the training with --resume",
            )
        return [load_weights(build(self.plan), m / "weights.safetensors").to(device).eval() for m in members]


def as_planned(dataset: Dataset, plan: Plan) -> Dataset:
    """The dataset as the plan's task wants it. Raises InputError BAD_LABEL for a plan of images from masks where there are
    none."""
    return with_masks(dataset) if draws_from_masks(plan) else for_task(dataset, plan.task)


def draws_from_masks(plan: Plan) -> bool:
    """Whether the run is a generator of images of masks."""
    return isinstance(plan.task_options, generation.Options) and plan.task_options.masks


def build(plan: Plan) -> nn.Module:
    """The plan's network with fresh weights."""
    return network(plan)


def read_plan(path: Path) -> Plan:
    """A plan file with its members' own option types. Raises InputError BAD_PLAN, UNKNOWN_MEMBER, UNSAFE_FILE."""
    values = read_json(path)
    task, model = TASKS.load(str(values.get("task"))), MODELS.load(str(values.get("model")))
    return Plan.parse_as(values, path, task.Options, model.Options)


def refuse_existing(root: str | Path, overwrite: bool, what: str = "run", mark: str = "plan.json") -> None:
    """Raises InputError RUN_EXISTS where `root` holds anything that may not be replaced: never a folder that is none of `what`,
    which has a file `mark`."""
    folder = Path(root)
    holds = folder.is_dir() and any(folder.iterdir())
    marked = (folder / mark).is_file()
    if folder.is_file() or (holds and not (overwrite and marked)):
        raise InputError(
            "RUN_EXISTS",
            folder,
            found=f"a {what}" if marked else "a file" if folder.is_file() else "a folder that is not empty",
            expected="a new or empty folder",
            fix="--resume continues it, --overwrite replaces it" if marked else "name another folder with --out",
        )


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """`model` with the weights of a safetensors file. Raises InputError BAD_WEIGHTS naming how many keys do not fit and the
    first, UNSAFE_FILE for a pickle."""
    tensors = read_tensors(path)
    want = model.state_dict()
    wrong = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(want[k].shape)}"
        for k in want
        if k in tensors and tensors[k].shape != want[k].shape
    ]
    lacking = [k for k in want if k not in tensors]
    foreign = [k for k in tensors if k not in want]
    if wrong or lacking or foreign:
        first = "; ".join(
            f"{what} {len(keys)} of {count} such as {', '.join(keys[:3])}"
            for what, keys, count in (
                ("missing", lacking, len(want)),
                ("unknown", foreign, len(tensors)),
                ("of other shape", wrong, len(want)),
            )
            if keys
        )
        raise InputError("BAD_WEIGHTS", path, found=first, expected="the plan's model", fix="use the weights of this run")
    model.load_state_dict(tensors)
    return model


def filled(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> nn.Module:
    """`model` with a copy of these weights, all of its own, which are taken one by one."""
    own = model.state_dict()
    for name, value in weights:
        own.pop(name).copy_(value)
    if own:
        raise KeyError(next(iter(own)))
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises InputError BAD_WEIGHTS (damaged, truncated), UNSAFE_FILE (a pickle or torch archive: nothing is run)."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError("NOT_FOUND", path, found="no file", expected="weights", fix="finish or repeat the training") from error
    # Safetensors begin with the length of a JSON header, whose first byte may be that of a pickle.
    if head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise InputError(
            "UNSAFE_FILE",
            path,
            found="a pickle or torch archive",
            expected="safetensors, which cannot run code",
            fix="convert it in the framework that wrote it",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise InputError(
            "BAD_WEIGHTS",
            path,
            found=f"{size} bytes that do not parse",
            expected="a whole safetensors file",
            fix="copy it again, or retrain",
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Safetensors beside `path`, flushed to disk, then renamed over it: a kill leaves the old file or the new one. Written
    straight from where the tensors lie: a copy of a checkpoint would take more memory than the network."""
    with atomic(path) as beside:
        try:
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, beside, dict(about or {}))
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from error
        with beside.open("rb+") as file:
            os.fsync(file.fileno())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """JSON with `schema: 1`, by rename."""
    write_text(path, json.dumps({"schema": 1, **value}, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")


def environment() -> dict[str, Any]:
    """Versions and hardware, nothing about the user."""
    names = ("torch", "numpy", "scipy", "nibabel", "pydicom", "pydantic", "blosc2", "safetensors")
    cuda = torch.cuda.is_available()
    return {
        "hounsfield": hounsfield.__version__,
        "python": platform.python_version(),
        "packages": {n: metadata.version(n) for n in names},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if cuda else [],
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "NOT_FOUND", path, found="no readable file", expected="a text file", fix="repeat the training"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Raises InputError NOT_FOUND, BAD_PLAN (no JSON object), UNSAFE_FILE (YAML)."""
    text = _text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        raise InputError("UNSAFE_FILE", path, found="YAML", expected="JSON, which cannot run code", fix="convert it to JSON")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(
            "BAD_PLAN", path, found=f"no JSON ({error})", expected="a JSON object", fix="repair the file"
        ) from error
    if not isinstance(value, dict):
        raise InputError("BAD_PLAN", path, found=type(value).__name__, expected="a JSON object", fix="repair the file")
    return value
