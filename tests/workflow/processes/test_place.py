"""Which of several processes this one is, in the words of torchrun and SLURM."""

from __future__ import annotations

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.workflow.processes import place as module
from hounsfield.workflow.processes.place import Place, check_devices, cores, first_node, options_of, own_device
from hounsfield.workflow.ready import Options

CPU = torch.device("cpu")
TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-09,12]",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_JOB_ID": "123456",
}


def test_alone() -> None:
    assert Place.of({}) is None
    assert Place.of({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}) is None
    assert Place.of({"WORLD_SIZE": "4", "RANK": "1"}) is None, "a container's variables that torchrun did not set"


def test_torchrun() -> None:
    found = Place.of(TORCHRUN)
    assert found is not None
    assert found == Place(5, 8, 1, 4, "10.0.0.7", 29500, hosted=False, told=False)
    assert found.nodes == 2
    hosted = Place.of({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert hosted is not None
    assert (hosted.hosted, hosted.told) == (True, False)


def test_srun() -> None:
    assert Place.of(SRUN) == Place(6, 8, 2, 4, "gpu07", 23456, hosted=False, told=False)


def test_the_batch_script_of_slurm_is_no_task_of_many() -> None:
    batch = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1", "SLURM_NNODES": "2"}
    assert Place.of(batch) is None


def test_machines_with_different_numbers_of_processes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^BAD_OPTION processes: found 8 of which 3 are on this machine"):
        Place.of({**TORCHRUN, "LOCAL_WORLD_SIZE": "3"})


@pytest.mark.parametrize(
    ("names", "first"),
    [("node1", "node1"), ("a,b", "a"), ("gpu[07-09,12]", "gpu07"), ("n[3,5]", "n3"), ("x-[1-4]-y", "x-1"), ("", "")],
)
def test_the_first_of_a_list_of_nodes(names: str, first: str) -> None:
    assert first_node(names) == first


def test_what_was_started_and_what_is_asked_for_must_agree() -> None:
    place = Place.of(TORCHRUN)
    for options in (Options(), Options(devices=4), Options(devices=4, nodes=2)):
        found = options_of(options, place)
        assert (found.devices, found.nodes, found.processes) == (4, 2, 8)
    for wrong in (Options(devices=8), Options(nodes=3)):
        with pytest.raises(InputError, match=r"^BAD_OPTION --devices: .*expected the 4 processes on each of 2 nodes"):
            options_of(wrong, place)
    assert options_of(Options(), None).processes == 1
    assert options_of(Options(devices=3), None).processes == 3


def test_a_strategy_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"^BAD_OPTION --strategy: found 'deepspeed', expected ddp or fsdp"):
        options_of(Options(strategy="deepspeed"), None)


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(CPU, cores())
    with pytest.raises(
        InputError, match=rf"^BAD_OPTION --devices: found {cores() + 1} processes, expected at most the {cores()} "
    ):
        check_devices(CPU, cores() + 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"found 4 processes, expected at most the 1 CUDA device here; fix: --devices 1$"):
        check_devices(torch.device("cuda"), 4)
    with pytest.raises(InputError, match=r"found 2 processes, expected at most the 1 mps device here"):
        check_devices(torch.device("mps"), 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_devices(torch.device("cuda"), 4)
    with pytest.raises(InputError, match=r"found --device cuda:1 for 2 processes, .*; fix: --device cuda$"):
        check_devices(torch.device("cuda", 1), 2)


def test_each_process_of_a_machine_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert own_device("auto", Place.of(TORCHRUN)) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert own_device("auto", Place.of(SRUN)) == torch.device("cuda", 0), "the scheduler shows each its own alone"


def test_processes_on_one_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(module, "cores", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert own_device("cpu", Place.of(TORCHRUN)) == CPU
    assert threads == [3]


def test_one_device_shards_nothing() -> None:
    with pytest.raises(InputError, match=r"^BAD_OPTION --strategy fsdp: found one device, .*; fix: add --devices"):
        options_of(Options(strategy="fsdp"), None)
    assert options_of(Options(strategy="fsdp", devices=2), None).processes == 2
