"""An image: channels first, on a grid in the patient, with what its file said about it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry


@dataclass(frozen=True)
class Spaces:
    """The spaces in which a NIfTI file places its voxels, which a file that is written from it repeats.

    sform, qform: the codes of its two affines (0 for none, 1 scanner, 2 another image, 3 Talairach, 4 MNI). units: of space and
    time, as the header codes them. taken: the affine that the image's geometry is; apart: rows of the (4, 4) that leads from
    there to where the other affine places the same voxels, in mm; None where both are one, or there is no other.
    """

    sform: int = 1
    qform: int = 1
    units: int = 10  # mm and seconds
    taken: Literal["sform", "qform"] = "sform"
    apart: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Meta:
    """What the file said beside voxels and grid. No identifying text may enter here.

    format: name of the format member that read it ("nifti", "dicom", "raster", "numpy").
    modality: DICOM code ("CT", "MR", "US", "CR", ...) or None where unknown.
    channels: a name for each channel, () where the file names none.
    palette: (N, 3) uint8 RGB colours of an indexed image, whose array then holds the indices; else None.
    lossy: the encoding changes values, so that the image cannot be a mask.
    burned_in: the file says that text about the patient is burned into its pixels.
    notes: sentences about what was dropped or decided while reading.
    description: what a NIfTI, PNG or TIFF file that is written says of the image; never what one said that was read, which may
        identify somebody.
    spaces: of a NIfTI file that was read, None of others.
    """

    format: str = "array"
    modality: str | None = None
    channels: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] | None = None
    lossy: bool = False
    burned_in: bool = False
    notes: tuple[str, ...] = ()
    description: str = ""
    spaces: Spaces | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """array: (C, D, H, W) or (C, H, W), any real dtype, in the source's units (HU for CT); geometry: of its spatial axes.

    Raises InputError WRONG_DIMENSION where array and geometry disagree.
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    meta: Meta = field(default_factory=Meta)

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.geometry.shape:
            raise InputError(
                "WRONG_DIMENSION",
                "image",
                found=f"array of {self.array.shape} on a grid of {self.geometry.shape}",
                expected="(channels, *grid)",
                fix="add the channel axis",
            )

    @property
    def channels(self) -> int:
        return int(self.array.shape[0])

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return self.geometry.ndim

    def canonical(self) -> Image:
        """The same voxels with axes nearest to (S, A, R); a view. See Geometry.canonical_axes."""
        axes, flips = self.geometry.canonical_axes()
        array = self.array.transpose(0, *[a + 1 for a in axes])
        array = array[(slice(None), *[slice(None, None, -1 if f else 1) for f in flips])]
        return Image(array, self.geometry.canonical(), self.meta)

    def noted(self, *notes: str) -> Image:
        """A copy whose meta says `notes` too."""
        return replace(self, meta=replace(self.meta, notes=self.meta.notes + notes))

    def preview(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 for the eye: the middle axial slice seen from the feet (patient's right on the left) of a 3D
        image, the image itself in 2D; grey between the 0.5th and 99.5th percentile."""
        array = self.array
        if self.ndim == 3:
            upright = self.canonical().array
            array = upright[:, upright.shape[1] // 2, ::-1, ::-1]
            array = array[:, :, ::-1] if self.geometry.space == "none" else array
        if self.meta.palette is not None:
            colours = np.array(self.meta.palette, dtype=np.uint8)
            indices = np.clip(array[0].astype(np.int64), 0, len(colours) - 1)
            coloured: npt.NDArray[np.uint8] = np.take(colours, indices, axis=0)
            return coloured
        planes = array[:3] if array.shape[0] >= 3 else np.repeat(array[:1], 3, axis=0)
        values = planes.astype(np.float32)
        if array.dtype == np.uint8 and array.shape[0] >= 3:
            return np.ascontiguousarray(planes.transpose(1, 2, 0))
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
        scaled = np.clip((np.nan_to_num(values) - low) / max(float(high - low), 1e-12), 0, 1) * 255
        return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        from PIL import Image as Pillow

        out = io.BytesIO()
        Pillow.fromarray(self.preview()).save(out, "PNG")
        return out.getvalue()

    def __repr__(self) -> str:
        g = self.geometry
        spacing = "×".join(f"{s:.3g}" for s in g.spacing)
        return f"Image({self.array.dtype} {self.array.shape}, {spacing} {g.unit}, {g.orientation}, {self.meta.format})"
