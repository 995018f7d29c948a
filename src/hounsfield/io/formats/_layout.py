"""How voxels lie in a file whose axes run x, y, z, with perhaps one of channels and one of volumes; one volume is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.stream import Inflated, Plain, Stream

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Role = Literal["space", "channels", "volumes"]

# Bytes after the voxels that are passed over to reach the checksum of deflated data; more is a bomb or a wrong header.
_SLACK = 1 << 20
# Rows of all volumes together that are shorter than this are read many at a time.
_PIECE = 1 << 22


@dataclass(frozen=True)
class Layout:
    """sizes, roles: of the file's axes, the fastest first: two or three of space, at most one each of channels and volumes.
    geometry: of what is read, flat where the third axis of space has one voxel. dtype: as stored.
    data: the file that holds the voxels. Its stream begins at byte `start` and is deflated where `packed`; the voxels begin
    after `skip` of its bytes (None: they are the end of a plain file). several: what a message calls the volumes."""

    data: Path
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    roles: tuple[Role, ...]
    geometry: Geometry
    start: int = 0
    packed: bool = False
    skip: int | None = 0
    notes: tuple[str, ...] = ()
    several: str = "volumes"

    @property
    def channels(self) -> int:
        return size_of("channels", self.sizes, self.roles)

    @property
    def volumes(self) -> int:
        return size_of("volumes", self.sizes, self.roles)

    def peek(self, name: str, modality: str | None = None) -> Peek:
        """What the header of a file of the format `name` tells."""
        dtype = self.dtype.newbyteorder("=")
        return Peek(name, self.geometry, self.channels, dtype, modality=modality, volumes=self.volumes)

    def load(self, path: Path, choices: Choices) -> Array:
        """(C, *spatial) of the chosen volume in the stored dtype, in native byte order. path: what messages name.

        Raises InputError WRONG_DIMENSION (no volume chosen), TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS.
        """
        index = self._index(path, choices)
        at = self.roles.index("volumes") if "volumes" in self.roles else len(self.sizes)
        block = self._block(path, (math.prod(self.sizes[at + 1 :]), self.volumes, math.prod(self.sizes[:at])), index)
        rest = [(size, role) for size, role in zip(self.sizes, self.roles, strict=True) if role != "volumes"][::-1]
        array = block.reshape([size for size, _ in rest])
        for k, (_, role) in enumerate(rest):
            array = np.moveaxis(array, k, 0) if role == "channels" else array
        return np.ascontiguousarray(array).reshape(self.channels, *self.geometry.shape)

    def _index(self, path: Path, choices: Choices) -> int:
        """Index of the volume to read. Raises InputError WRONG_DIMENSION where it must be chosen, or is not there."""
        chosen = 0 if choices.volume is None and self.volumes == 1 else choices.volume
        if chosen is None or not 0 <= chosen < self.volumes:
            shape = (*reversed(self.geometry.shape), self.volumes)
            asked = "" if chosen is None else f", and --volume {chosen}"
            raise InputError(
                "WRONG_DIMENSION",
                path,
                found=f"{self.volumes} {self.several}, shape {shape}{asked}",
                expected="one volume",
                fix=f"choose one with --volume 0 to --volume {self.volumes - 1}",
            )
        return chosen

    def _block(self, path: Path, shape: tuple[int, int, int], index: int) -> Array:
        """[:, index] of the file's numbers seen as an array of `shape`, slowest axis first."""
        needed = self.dtype.itemsize * math.prod(shape)
        size = self.data.stat().st_size
        there = max(0, size - self.start)
        skip = there - needed if self.skip is None else self.skip
        holds = there * limits.DEFLATE_RATIO if self.packed else there
        if not self.packed and (skip < 0 or skip + needed > there):
            raise limits.truncated(path, max(0, there - max(0, skip)), needed, "voxels")
        if skip + needed > holds:
            raise InputError(
                "TOO_LARGE",
                path,
                found=f"a claim of {limits.size_text(needed)} of voxels by {there} bytes of gzip",
                expected=f"at most {holds} bytes, all that these can hold",
                fix="copy or export the file again",
            )
        array = np.empty((shape[0], shape[2]), dtype=self.dtype)
        with self.data.open("rb") as file:
            file.seek(self.start)
            stream: Stream = Inflated(file, path) if self.packed else Plain(file, size)
            found = stream.skip(skip) - skip
            found += _fill(stream, array.view(np.uint8), shape[1], index)
            if found < needed:
                raise limits.truncated(path, max(0, found), needed, "voxels")
            if self.packed:
                _check_end(path, there, stream.skip(_SLACK), stream.whole)
        if self.dtype.fields is None and not self.dtype.isnative:
            array = array.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        return array


def size_of(role: Role, sizes: Sequence[int], roles: Sequence[Role]) -> int:
    """How many there are of what an axis counts: 1 without such an axis."""
    return math.prod(size for size, its in zip(sizes, roles, strict=True) if its == role)


def check_claim(path: Path, dtype: np.dtype[Any], sizes: Sequence[int], roles: Sequence[Role]) -> None:
    """Raises InputError TOO_LARGE where a volume is past the limits."""
    spatial = [size for size, role in zip(sizes, roles, strict=True) if role == "space"]
    limits.claimed(path, (size_of("channels", sizes, roles), *reversed(spatial)), dtype.itemsize * 8)


def storable(array: Array) -> Array:
    """The array in a dtype that files of these formats have, values unchanged: float16 as float32, bool as uint8."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(np.uint8) if array.dtype == np.bool_ else array


def world_of(geometry: Geometry) -> npt.NDArray[np.float64]:
    """The affine (4, 4) from (x, y, z) to R, A, S in mm; a 2D grid's third axis is 1 mm along its normal."""
    if geometry.ndim == 3:
        return np.asarray(geometry.affine[:, [2, 1, 0, 3]])
    affine = np.zeros((4, 4))
    affine[:, [0, 1, 3]] = geometry.affine[:, [1, 0, 2]]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    affine[:3, 2] = normal / np.linalg.norm(normal)
    return affine


def _fill(stream: Stream, out: Bytes, count: int, index: int) -> int:
    """Row k of `out` (rows, bytes) from part `index` of the `count` parts that follow each other in the stream for each row;
    the number of bytes that were there."""
    rows, row = out.shape
    if count == 1:
        return stream.fill(out.reshape(-1).data)
    found = 0
    if row * count > _PIECE:
        for k in range(rows):
            found += stream.skip(row * index) + stream.fill(out[k].data) + stream.skip(row * (count - 1 - index))
        return found
    piece = np.empty((max(1, _PIECE // (row * count)), count, row), dtype=np.uint8)
    for k in range(0, rows, len(piece)):
        part = piece[: rows - k]
        found += stream.fill(part.reshape(-1).data)
        out[k : k + len(part)] = part[:, index]
    return found


def _check_end(path: Path, size: int, beyond: int, whole: bool) -> None:
    if beyond >= _SLACK:
        raise InputError(
            "EXPANDS_TOO_FAR",
            path,
            found=f"more than {beyond} bytes after the voxels that the header claims",
            expected="the end of the compressed data",
            fix="check where the file came from, or repair its header",
        )
    if not whole:
        raise InputError(
            "TRUNCATED",
            path,
            found=f"{size} bytes of gzip without its end",
            expected="its checksum after the voxels",
            fix="copy or export the file again",
        )
