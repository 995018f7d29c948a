"""What phantoms are painted on: CT numbers and labels over a grid in millimetres, shapes as distances, smooth random fields.

x runs to the patient's left, y to the back, z up. A shape is an array of distances in mm, negative inside, so that a voxel on
a border gets its part of both tissues; nothing depends on the voxel size, so that one patient looks the same on every grid.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Point = tuple[float, float, float]  # x, y, z in mm
Tube = tuple[Point, Point, float, float]  # from, to, radius there and there

WARP = 5.0  # mm, standard deviation of the random displacement of all tissue
FAR = 1e3  # mm, outside of everything


class Waves:
    """A smooth random field of mean 0 and variance 1: plane waves of random direction and phase, wavelengths in mm."""

    def __init__(self, rng: np.random.Generator, shortest: float, longest: float, count: int = 16) -> None:
        direction = rng.standard_normal((count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self.k = direction * (2 * np.pi / rng.uniform(shortest, longest, (count, 1)))
        self.phase = rng.uniform(0, 2 * np.pi, count)

    def at(self, z: Floats, y: Floats, x: Floats) -> Floats:
        """(len(z), len(y), len(x)) values on the grid of three 1-D axes; cos(a + b) as a product makes it one matmul."""
        zy = (z[:, None, None] * self.k[:, 2] + y[:, None] * self.k[:, 1] + self.phase).reshape(-1, len(self.k))
        xx = x[:, None] * self.k[:, 0]
        field = np.hstack([np.cos(zy), np.sin(zy)]) @ np.hstack([np.cos(xx), -np.sin(xx)]).T
        return np.asarray(field.reshape(len(z), len(y), len(x)) * np.sqrt(2 / len(self.k)))


@dataclass
class Canvas:
    """Arrays (D, H, W) over one grid, painted back to front; a part of a canvas is a view of it.

    axes: unwarped z, y, x of the voxels in mm, rising. soft: mm over which a border fades, a voxel's side. slack: mm, the
    largest warp. hu: CT numbers. labels: uint8. x, y, z: warped position of each voxel. fine, coarse: random textures.
    inner: distance to the inner face of the trunk's wall. right, left: height over the diaphragm's domes. liver: distance.
    """

    axes: tuple[list[float], list[float], list[float]]
    soft: float
    slack: float
    hu: Floats
    labels: npt.NDArray[np.uint8]
    x: Floats
    y: Floats
    z: Floats
    fine: Floats
    coarse: Floats
    inner: Floats
    right: Floats
    left: Floats
    liver: Floats

    @classmethod
    def blank(cls, z: Floats, y: Floats, x: Floats, rng: np.random.Generator) -> Canvas:
        """Air, no labels, every distance unknown (far)."""
        shape = (len(z), len(y), len(x))
        warp = [WARP * Waves(rng, 110, 320, 10).at(z, y, x) for _ in range(3)]
        return cls(
            axes=(z.tolist(), y.tolist(), x.tolist()),
            soft=float(y[1] - y[0] + x[1] - x[0]) / 2,
            slack=float(np.abs(warp).max()),
            hu=np.full(shape, -1000.0),
            labels=np.zeros(shape, dtype=np.uint8),
            x=x + warp[2],
            y=y[:, None] + warp[1],
            z=z[:, None, None] + warp[0],
            fine=Waves(rng, 9, 22).at(z, y, x),
            coarse=Waves(rng, 30, 70).at(z, y, x),
            inner=np.full(shape, FAR),
            right=np.full(shape, FAR),
            left=np.full(shape, FAR),
            liver=np.full(shape, FAR),
        )

    def span(self, low: Point, high: Point) -> tuple[slice, slice, slice] | None:
        """Where all voxels lie whose warped position may be in the box low..high (x, y, z); None where it is off the grid."""
        margin = self.slack + self.soft
        spans = []
        for axis, k in zip(self.axes, (2, 1, 0), strict=True):  # z first: most boxes miss a single slice
            start, stop = bisect_left(axis, low[k] - margin), bisect_right(axis, high[k] + margin)
            if start >= stop:
                return None
            spans.append(slice(start, stop))
        return spans[0], spans[1], spans[2]

    def part(self, low: Point, high: Point) -> Canvas:
        """The view of `span`; without voxels where there are none."""
        at = self.span(low, high) or (slice(0), slice(0), slice(0))
        axes = (self.axes[0][at[0]], self.axes[1][at[1]], self.axes[2][at[2]])
        return Canvas(
            axes=axes,
            soft=self.soft,
            slack=self.slack,
            hu=self.hu[at],
            labels=self.labels[at],
            x=self.x[at],
            y=self.y[at],
            z=self.z[at],
            fine=self.fine[at],
            coarse=self.coarse[at],
            inner=self.inner[at],
            right=self.right[at],
            left=self.left[at],
            liver=self.liver[at],
        )

    def paint(self, shape: Floats, hu: Floats | float, label: int | None = 0, only: int | None = None) -> None:
        """Put tissue of `hu` where `shape` is negative. label None leaves the labels; only: within voxels of this label."""
        cover = np.minimum(np.maximum(0.5 - shape / self.soft, 0), 1)
        if only is not None:
            cover *= self.labels == only
        self.hu += cover * (hu - self.hu)
        if label is not None:
            self.labels[cover > 0.5] = label

    def ellipsoid(self, centre: Point, radii: Point) -> Floats:
        """Distance to an ellipsoid with axes along x, y, z: first order, exact on its surface."""
        ux, uy, uz = ((axis - c) / r for axis, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True))
        inner = np.sqrt(ux * ux + uy * uy + uz * uz) + 1e-9
        ux, uy, uz = ux / radii[0], uy / radii[1], uz / radii[2]
        return np.asarray(inner * (inner - 1) / np.sqrt(ux * ux + uy * uy + uz * uz + 1e-18))

    def pillar(self, x: float, y: float, rx: float, ry: float) -> Floats:
        """Distance to an upright elliptical cylinder, first order."""
        ux, uy = (self.x - x) / rx, (self.y - y) / ry
        inner = np.sqrt(ux * ux + uy * uy) + 1e-9
        ux, uy = ux / rx, uy / ry
        return np.asarray(inner * (inner - 1) / np.sqrt(ux * ux + uy * uy + 1e-18))

    def tube(self, tube: Tube, margin: float = 0.0) -> Iterator[tuple[Canvas, Floats]]:
        """The part of the canvas round a tube, widened by `margin`, and the distance to it; nothing where it is off grid."""
        box = _box(tube, margin)
        if self.span(*box) is not None:
            part = self.part(*box)
            yield part, _to_tube(part.x, part.y, part.z, tube)

    def tubes(self, tubes: Iterable[Tube]) -> Floats:
        """Distance to the nearest of many tubes, at those voxels that lie near one; FAR elsewhere. Tubes about as thin as
        half a voxel are left out: they would not show."""
        nearest = np.full(self.hu.shape, FAR)
        for tube in tubes:
            at = self.span(*_box(tube, 0)) if tube[2] > 0.55 * self.soft else None
            if at is not None:
                np.minimum(nearest[at], _to_tube(self.x[at], self.y[at], self.z[at], tube), out=nearest[at])
        return nearest


def _box(tube: Tube, margin: float) -> tuple[Point, Point]:
    (ax, ay, az), (bx, by, bz), ra, rb = tube
    m = max(ra, rb) + margin
    return (min(ax, bx) - m, min(ay, by) - m, min(az, bz) - m), (max(ax, bx) + m, max(ay, by) + m, max(az, bz) + m)


def _to_tube(x: Floats, y: Floats, z: Floats, tube: Tube) -> Floats:
    (ax, ay, az), (bx, by, bz), ra, rb = tube
    dx, dy, dz = bx - ax, by - ay, bz - az
    length = dx * dx + dy * dy + dz * dz + 1e-9
    x, y, z = x - ax, y - ay, z - az
    along = np.minimum(np.maximum((x * dx + y * dy + z * dz) / length, 0), 1)
    x, y, z = x - along * dx, y - along * dy, z - along * dz
    return np.asarray(np.sqrt(x * x + y * y + z * z) - (ra + along * (rb - ra)))
