"""Doctor: what this machine offers, and what is missing."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hounsfield
from hounsfield.workflow.console import facts_table

if TYPE_CHECKING:
    from rich.console import RenderableType

EXTRAS: Final = {
    "dicom": "compressed DICOM: JPEG, JPEG-LS, JPEG 2000; DICOM results",
    "monai": "Swin UNETR of MONAI",
    "notebook": "the notebooks",
    "peft": "changes of low rank (LoRA)",
    "scale": "training on several devices",
    "timm": "networks of timm by name",
}
MODULES: Final = {"pillow": "PIL", "pyyaml": "yaml"}  # imported under another name than installed
ENOUGH_DISK: Final = 5 * 2**30  # bytes free, below which something is said
ENOUGH_MEMORY: Final = 4 * 2**30


@dataclass(frozen=True)
class Device:
    """name: what --device is given. total, free: bytes, None where the system does not tell."""

    name: str
    about: str
    total: int | None
    free: int | None


@dataclass(frozen=True)
class Disk:
    """use: what is written there. free: bytes."""

    use: str
    path: str
    free: int


@dataclass(frozen=True)
class Extra:
    """missing: packages of the extra that are not installed, () where it is whole."""

    name: str
    use: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """memory_total, memory_free: bytes, what a container is allowed at most; None where unknown. packages: versions, "" where a
    package is not installed. problems: sentences, () for a healthy machine."""

    hounsfield: str
    python: str
    platform: str
    processor: str
    cores: int
    threads: int
    memory_total: int | None
    memory_free: int | None
    devices: tuple[Device, ...]
    disks: tuple[Disk, ...]
    packages: dict[str, str]
    extras: tuple[Extra, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}


def doctor() -> Diagnosis:
    """Looks at this machine; imports every package that Hounsfield needs, and says which ones fail."""
    from hounsfield.data.cache import cache_root

    required, extras = _requirements()
    packages = {name: version(name) for name in required}
    failing = list(_failing(packages))
    known: dict[str, Any] = {}
    devices: tuple[Device, ...] = ()
    if not failing:
        from hounsfield.workflow.run import environment

        known, devices = environment(), _devices()
    total, free = memory()
    places = {"cache": cache_root(), "this folder": Path.cwd()}
    disks = tuple(Disk(use, str(path), shutil.disk_usage(_existing(path)).free) for use, path in places.items())
    return Diagnosis(
        hounsfield=hounsfield.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=known.get("processor", platform.processor()),
        cores=os.cpu_count() or 1,
        threads=known.get("threads", 0),
        memory_total=total,
        memory_free=free,
        devices=devices,
        disks=disks,
        packages=packages,
        extras=tuple(
            Extra(name, use, tuple(p for p in extras.get(name, ()) if not version(p))) for name, use in EXTRAS.items()
        ),
        problems=(*failing, *_idle(devices), *_scarce(disks, free)),
    )


def show(found: Diagnosis) -> RenderableType:
    """The diagnosis for a terminal."""
    from rich.console import Group
    from rich.text import Text

    cores = f"{found.cores} cores, {found.threads} threads used" if found.threads else f"{found.cores} cores"
    rows = [
        ("hounsfield", f"{found.hounsfield}, Python {found.python}, {found.platform}"),
        ("processor", f"{found.processor or 'unknown'}, {cores}"),
        ("memory", _room(found.memory_total, found.memory_free)),
        *(("device", f"{d.name}: {d.about}" + (f", {_room(d.total, d.free)}" if d.total else "")) for d in found.devices),
        *((d.use, f"{size(d.free)} free in {d.path}") for d in found.disks),
        ("packages", ", ".join(f"{name} {number or 'missing'}" for name, number in found.packages.items())),
        *((f"extra {e.name}", _state(e)) for e in found.extras),
    ]
    verdict = [Text(f"problem: {p}", style="red") for p in found.problems] or [Text("nothing is missing", style="green")]
    return Group(facts_table(rows), Text(), *verdict)


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory: all of it, and what is free; in a container at most its limit. None where the system does not tell."""
    facts = Path("/proc/meminfo")
    if facts.exists():  # Linux
        lines = (line.split() for line in facts.read_text().splitlines())
        told = {words[0]: int(words[1]) * 1024 for words in lines}
        total, free = told["MemTotal:"], told["MemAvailable:"]
        limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
        return (total, free) if limit is None or used is None else (min(total, limit), min(free, max(0, limit - used)))
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None, None


def version(package: str) -> str:
    """Of an installed package, "" where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB"


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Names of the packages that Hounsfield needs, and those of each extra, as its own metadata say."""
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("hounsfield") or []:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", line)
        (extras.setdefault(extra[1], []) if extra else needed).append(name)
    return needed, extras


def _failing(packages: Iterable[str]) -> Iterator[str]:
    for name in packages:
        try:
            importlib.import_module(MODULES.get(name, name))
        except Exception as error:  # whatever a broken installation raises
            yield f"{name} cannot be imported ({type(error).__name__}: {error}); install Hounsfield anew"


def _devices() -> tuple[Device, ...]:
    """Every device that --device may name."""
    import torch

    vectors = torch.backends.cpu.get_cpu_capability()
    found = [Device("cpu", f"{vectors} instructions", None, None)]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None, None))
    for k in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(k)
        found.append(Device(f"cuda:{k}", torch.cuda.get_device_name(k), total, free))
    return tuple(found)


def _idle(devices: Sequence[Device]) -> Iterator[str]:
    if devices and shutil.which("nvidia-smi") and not any(d.name.startswith("cuda") for d in devices):
        yield "an NVIDIA driver is installed, but torch sees no GPU: install a CUDA build of torch that the driver supports"


def _scarce(disks: Iterable[Disk], free: int | None) -> Iterator[str]:
    for disk in disks:
        if disk.free < ENOUGH_DISK:
            yield f"{size(disk.free)} free in {disk.path} ({disk.use}): larger datasets will not fit"
        if not os.access(_existing(Path(disk.path)), os.W_OK):
            yield f"no right to write into {disk.path} ({disk.use})"
    if free is not None and free < ENOUGH_MEMORY:
        yield f"{size(free)} of memory free: larger volumes will not fit"


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.resolve().parents) if p.exists())


def _number(path: Path) -> int | None:
    """The number in a file of the kernel's, None where there is none ("max")."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _room(total: int | None, free: int | None) -> str:
    if total is None:
        return "unknown"
    return size(total) if free is None else f"{size(free)} free of {size(total)}"


def _state(extra: Extra) -> str:
    if not extra.missing:
        return f"there ({extra.use})"
    return f"missing {', '.join(extra.missing)} ({extra.use}): pip install {' '.join(extra.missing)}"
