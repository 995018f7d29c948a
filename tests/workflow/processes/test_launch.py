"""Processes that are started together end together, and why one failed is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.processes.pairs import free_port

from hounsfield.core.errors import InputError, ResourceError, RunInterruptedError
from hounsfield.io.formats import Choices
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.processes import launch as module
from hounsfield.workflow.processes.launch import launch
from hounsfield.workflow.processes.place import Place, cores
from hounsfield.workflow.ready import Options

HOW = {"overwrite": False, "resume": False, "started": 0.0}


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdin=subprocess.DEVNULL)


def watched(*codes: str, told: str = "") -> None:
    """Start a process for each code, and watch them as a launch does. told: a failure that one of them wrote down."""
    store: Any = import_module("torch.distributed").HashStore()
    if told:
        store.set("failed", told)
    processes = [started(code) for code in codes]
    try:
        module._watch(processes, 4, (store, None))
    finally:
        module._end(processes)
        assert all(process.poll() is not None for process in processes), "one was left behind"


def test_all_well() -> None:
    watched("pass", "import time; time.sleep(0.2)")


def test_a_process_that_dies_takes_the_others_with_it() -> None:
    begun = time.monotonic()
    with pytest.raises(
        ResourceError, match=r"^RANK_LOST rank 5: found a process that was ended by SIGKILL, .*--resume$"
    ) as error:
        watched("import time; time.sleep(60)", "import os; os.kill(os.getpid(), 9)")
    assert time.monotonic() - begun < 10
    assert error.value.exit_code == 3


def test_one_that_does_not_want_to_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDING", 0.3)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(ResourceError, match=r"^RANK_LOST rank 5: found a process that ended with exit code 7"):
        watched(stubborn, "import sys, time; time.sleep(0.3); sys.exit(7)")


def test_the_cause_that_was_written_down_is_told_whoever_ended_first() -> None:
    told = {"rank": 5, "exit_code": 2, "found": "a", "code": "BAD_LABEL", "where": "case", "expected": "b", "fix": "c"}
    with pytest.raises(InputError, match=r"^BAD_LABEL case: found a, expected b; fix: c$"):
        watched("import sys; sys.exit(2)", "import time; time.sleep(60)", told=json.dumps(told))
    with pytest.raises(InputError, match=r"^BAD_LABEL rank 5: case: found a"):
        watched("import sys; sys.exit(2)", told=json.dumps({**told, "training": True}))
    with pytest.raises(RuntimeError, match=r"^rank 5: KeyError"):
        watched("import sys; sys.exit(1)", told=json.dumps({"rank": 5, "exit_code": 1, "found": "KeyError: 'x'"}))


def test_an_interrupt() -> None:
    with pytest.raises(RunInterruptedError, match="INTERRUPTED"):
        watched("import sys; sys.exit(130)")


def test_what_is_asked_for_travels_as_json() -> None:
    options = Options(plan=Path("a/plan.json"), changes={"training.lr": 1}, choices=Choices(volume=2), devices=2)
    found = json.loads(json.dumps(module._plain(options)))
    back = Options(**{**found, "plan": Path(found["plan"]), "choices": Choices(**found["choices"])})
    assert back == options


def test_more_devices_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^BAD_OPTION --devices: found {cores() + 1} processes"):
        launch("data", tmp_path / "run", Options(devices=cores() + 1, device="cpu"), HOW, SILENT)


def test_an_existing_run_is_refused_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_devices", lambda *_: None)
    monkeypatch.setattr(module, "check_installed", lambda *_: None)
    monkeypatch.setattr(module, "_start", lambda *_: pytest.fail("started"))
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="RUN_EXISTS"):
        launch("data", tmp_path, Options(devices=2, device="cpu"), HOW, SILENT)


def test_several_machines_need_to_know_where_they_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        InputError,
        match=r"^BAD_OPTION --nodes: found 2 machines, and no MASTER_ADDR, MASTER_PORT, NODE_RANK .*srun or torchrun",
    ):
        launch("data", tmp_path / "run", Options(devices=1, nodes=2, device="cpu"), HOW, SILENT)


def test_each_process_is_told_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    class Started:
        stdin = type("Pipe", (), {"write": lambda self, text: None, "close": lambda self: None})()

        def __init__(self, command: list[str], **given: Any) -> None:
            seen.append(given["env"])

    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "cores", lambda: 6)
    place = Place(3, 4, 1, 2, "10.0.0.7", 29500, hosted=True, told=True)
    module._start(place, {})
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    assert [seen[0][name] for name in names] == ["3", "4", "1", "2", "10.0.0.7", "29500", "3"]
    assert Place.of(seen[0]) == place


def test_the_first_machine_keeps_the_place_where_all_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    options = Options(devices=2, nodes=2)
    (one, kept), first = module._meeting(options, 0)
    (other, none), second = module._meeting(options, 1)
    assert (kept is not None, none) == (True, None)
    assert first == Place(0, 4, 0, 2, "127.0.0.1", port, hosted=True, told=True)
    assert second == Place(2, 4, 0, 2, "127.0.0.1", port, hosted=True, told=True)
    one.set("key", "value")
    assert other.get("key") == b"value"


@pytest.mark.parametrize("number", ["0", "1"])
def test_the_machine_says_which_it_is(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("NODE_RANK", number)
    assert module._node(Options(nodes=2)) == int(number)
    assert module._node(Options()) == 0
