"""The state of a training on disk: one file, or from each process the rows that it has; read by any number of processes.

Of several parts `checkpoint.json` is the index: the state, and of each tensor its shape and the row at which each part
begins. They lie in a folder of their own that the index names, so that a kill leaves the old state whole or the new one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.workflow.processes.team import ALONE, Team, local
from hounsfield.workflow.run import read_tensors, write_json, write_tensors

WHOLE, INDEX = "checkpoint.safetensors", "checkpoint.json"

Groups = Mapping[str, Mapping[str, Tensor]]


def write(folder: Path, state: Mapping[str, Any], groups: Groups, team: Team = ALONE) -> None:
    """state: of which `step` counts up. groups: tensors by group and name. All processes of `team` call it together."""
    tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    if not team.sharded:
        if team.leads:
            write_tensors(folder / WHOLE, tensors, {"state": json.dumps(dict(state))})
            _forget(folder)
        return
    kept = f"{state['step']}-of-{team.size}"
    shared = {name: local(value) for name, value in tensors.items() if _lies_on_several(value)}
    alone = {name: value for name, value in tensors.items() if name not in shared}
    write_tensors(folder / kept / f"{team.rank}.safetensors", {**shared, **alone} if team.leads else shared)
    team.wait()
    if team.leads:
        index = {
            name: {
                "shape": list(value.shape),
                "rows": _first_rows(len(value), team.size) if name in shared else None,
            }
            for name, value in tensors.items()
        }
        write_json(folder / INDEX, {"state": dict(state), "folder": kept, "parts": team.size, "tensors": index})
        _forget(folder, kept)


def read(folder: Path) -> tuple[dict[str, Any], Groups] | None:
    """The newest state that was written into `folder`, whoever wrote it, or None. Tensors of several parts are put together
    one by one, as they are asked for.

    Raises InputError BAD_WEIGHTS where it is damaged, UNSAFE_FILE for a pickle.
    """
    found = [state for state in (_read_sharded(folder / INDEX), _read_whole(folder / WHOLE)) if state is not None]
    return max(found, key=lambda state: int(state[0]["step"]), default=None)


def fill(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], team: Team = ALONE) -> None:
    """Copy what was stored into tensors of the same names, of which this process may have some rows.

    Raises KeyError, ValueError for other names or shapes.
    """
    if own.keys() != stored.keys():
        raise KeyError(next(iter(own.keys() ^ stored.keys())))
    for name, value in own.items():
        put(value, stored[name], team)


def put(own: Tensor, stored: Tensor, team: Team = ALONE) -> None:
    """As `fill`, of one tensor."""
    if own.shape != stored.shape:
        raise ValueError(f"{tuple(stored.shape)} for {tuple(own.shape)}")
    if _lies_on_several(own):
        rows = _first_rows(len(own), team.size)
        stored = stored[rows[team.rank] : rows[team.rank + 1]]
    with torch.no_grad():
        local(own).copy_(stored)


def like(own: Tensor, stored: Tensor, team: Team = ALONE) -> Tensor:
    """What was stored, lying as the parameter `own` of the same shape does; a single number as it is. Raises ValueError."""
    if stored.ndim == 0:
        return stored
    made = torch.empty_like(own)
    put(made, stored, team)
    return made


def foreign(path: Path) -> InputError:
    return InputError(
        "BAD_WEIGHTS", path, found="a checkpoint of another model", expected="this plan's", fix="train anew with --overwrite"
    )


class _Pieces(Mapping[str, Tensor]):
    """Tensors of one group by name. files: of all parts, in order; index: as in the file, of this group alone."""

    def __init__(self, path: Path, files: Sequence[Any], group: str, index: Mapping[str, Mapping[str, Any]]) -> None:
        self.path, self.files, self.group, self.index = path, files, group, index

    def __getitem__(self, name: str) -> Tensor:
        about = self.index[name]
        files = self.files if about["rows"] is not None else self.files[:1]
        try:
            parts = [file.get_tensor(f"{self.group}/{name}") for file in files]
            whole: Tensor = torch.cat(parts) if about["rows"] is not None else parts[0]
        except (SafetensorError, OSError, RuntimeError) as error:
            raise _damaged(self.path, f"no whole tensor {name}") from error
        if list(whole.shape) != about["shape"]:
            raise _damaged(self.path, f"{name} of {list(whole.shape)} where the index says {about['shape']}")
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)


def _read_sharded(path: Path) -> tuple[dict[str, Any], Groups] | None:
    if not path.exists():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names = [path.parent / Path(about["folder"]).name / f"{rank}.safetensors" for rank in range(about["parts"])]
        files = [safe_open(str(name), "pt") for name in names]
        index: dict[str, dict[str, Any]] = {}
        for key, value in about["tensors"].items():
            group, name = key.split("/", 1)
            index.setdefault(group, {})[name] = {"shape": value["shape"], "rows": value["rows"]}
        state = dict(about["state"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise _damaged(path, f"an index or a part that cannot be read ({type(error).__name__})") from error
    return state, {group: _Pieces(path, files, group, names) for group, names in index.items()}


def _read_whole(path: Path) -> tuple[dict[str, Any], Groups] | None:
    if not path.exists():
        return None
    tensors = read_tensors(path)
    with safe_open(str(path), "pt") as file:
        about = (file.metadata() or {}).get("state")
    if about is None:
        raise foreign(path)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = value
    return json.loads(about), groups


def _forget(folder: Path, kept: str = "") -> None:
    """Remove what is older than what was just written: the parts in the folder `kept`, or else the one file."""
    if kept:
        (folder / WHOLE).unlink(missing_ok=True)
    else:
        (folder / INDEX).unlink(missing_ok=True)
    for other in folder.glob("*-of-*"):
        if other.name != kept:
            shutil.rmtree(other, ignore_errors=True)


def _first_rows(rows: int, parts: int) -> list[int]:
    """Where each of so many parts begins, and where the last one ends: parts are of one size, but for those at the end."""
    each = -(-rows // parts)
    return [min(k * each, rows) for k in range(parts + 1)]


def _lies_on_several(value: Tensor) -> bool:
    return hasattr(value, "to_local")


def _damaged(path: Path, found: str) -> InputError:
    return InputError("BAD_WEIGHTS", path, found=found, expected="a whole checkpoint", fix="copy it again, or retrain")
