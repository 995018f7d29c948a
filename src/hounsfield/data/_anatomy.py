"""The upper abdomen of a patient who does not exist: organs painted back to front, in CT numbers of a portal venous phase.

Positions are in mm as in `_canvas`, 0 at the first lumbar vertebra; sizes and places are an adult's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from hounsfield.data._canvas import FAR, Canvas, Floats, Point, Tube

OTHER, LIVER, SPLEEN, KIDNEY, BONE, VESSEL, LESION = range(7)


def render(canvas: Canvas, rng: np.random.Generator, half_width: float) -> None:
    """Paint one patient on a blank canvas. half_width: mm from the midline to the skin at the side."""
    trunk, chest, bowel, organs, vessels = rng.spawn(5)
    _trunk(canvas, trunk, half_width)
    _chest(canvas, chest)
    _spine(canvas, chest)
    _bowel(canvas, bowel)
    _organs(canvas, organs)
    _vessels(canvas, vessels)


def _trunk(c: Canvas, rng: np.random.Generator, half_width: float) -> None:
    """Couch, skin, fat, the layered muscle wall with ribs, the fat of the cavity, the muscles of the back."""
    fat, wall = half_width * rng.uniform(0.05, 0.15), rng.uniform(12, 17)
    front, back = half_width * rng.uniform(0.7, 0.82), half_width * 0.36 + 36
    x, y = c.x, c.y
    couch = np.array(c.axes[1])[:, None] - back - 12 + np.array(c.axes[2]) ** 2 / 2400
    c.paint(np.abs(np.abs(couch - 9) - 9) - 1.8 + np.zeros_like(x), 30.0)

    u, v = (x / half_width) ** 2, (y / np.where(y > 0, back, front)) ** 2
    q = 0.65 * np.sqrt(u + v) + 0.35 * np.sqrt(np.sqrt(u * u + v * v)) + 1e-3
    behind, squared = y > 0, x * x
    skin = np.sqrt(squared + y * y) * (1 - 1 / q) + 8 * np.exp(-squared / 400) * behind
    c.paint(skin, 40.0)
    c.paint(skin + 2, -104 + 7 * c.fine)
    muscle = skin + fat * (1 + 0.08 * c.coarse + 0.25 * (u - v) / (u + v + 1e-9) - 0.45 * np.exp(-squared / 1000) * behind)
    thick = wall * (1 - 0.55 * np.exp(-squared / 50) * ~behind + 0.05 * c.coarse)
    # Three flat muscles at the sides: fat shows as a thin line between them.
    seam = 1.5 - np.minimum(np.abs(muscle + 0.36 * thick), np.abs(muscle + 0.68 * thick))
    c.paint(muscle, 60 + 7 * c.fine - 35 * np.clip(seam, 0, 1.5) * (u > 0.09))
    c.inner[:] = muscle + thick
    c.paint(c.inner, -106 + 9 * c.fine)
    _ribs(c, muscle + 0.6 * thick, rng)

    for side in (-1, 1):
        for cx, cy, rx, ry in (
            (33.0, 0.83 * back, 29.0, 20.0),
            (62.0, 0.66 * back, 19.0, 10.0),
            (32.0, 0.36 * back, 13.0, 15.0),
        ):
            p = c.part((side * cx - 45, cy - 36, -FAR), (side * cx + 45, FAR, FAR))
            shape = p.pillar(side * cx, cy - 2, rx, ry)
            psoas = ry == 15
            shape = shape - np.clip(0.12 * (20 - p.z), -9, 13) if psoas else np.maximum(shape, p.inner - wall + 2)
            p.paint(shape, 58 + 12 * p.fine - 8 * np.abs(p.coarse))
    top = rng.normal((82, 72), 4)
    c.right[:] = c.z - top[0] + 62 * (((x + 66) / 105) ** 2 + ((y + 12) / 92) ** 2)
    c.left[:] = c.z - top[1] + 62 * (((x - 66) / 95) ** 2 + ((y + 8) / 90) ** 2)


def _ribs(c: Canvas, depth: Floats, rng: np.random.Generator) -> None:
    """Ribs running down and forward inside the wall, bone behind and cartilage in front, down to the costal margin."""
    around = np.arctan2(np.abs(c.x), c.y)  # 0 at the back, pi in front
    height = (c.z + 60 * around + np.where(c.x > 0, 1, -1) * rng.normal(0, 3) + rng.uniform(0, 30)) % 30 - 15
    rib = (np.sqrt((depth / 4.4) ** 2 + (height / 6.8) ** 2) - 1) * 4.4
    rib = np.maximum(rib, np.maximum(12 * around**2 - 25 - c.z, 60 * (0.5 - around)))
    front = 60 * (around - 2.4)
    c.paint(np.maximum(rib, -front), 120.0)
    bone = np.maximum(rib, front)
    c.paint(bone, 420.0, BONE)
    c.paint(bone + 2.4, 210.0, None)


def _chest(c: Canvas, rng: np.random.Generator) -> None:
    """Lung bases over the diaphragm's domes, and the heart between them."""
    shift = rng.normal(0, 5, 2)
    p = c.part((-FAR, -FAR, -20), (FAR, FAR, FAR))
    above = 0.6 * np.minimum(p.right, p.left)
    p.paint(np.maximum(p.inner + 1, -above), 58.0)
    p.paint(np.maximum(p.inner + 2.5, 2.5 - above), -850 + 30 * p.coarse + 60 * np.maximum(p.fine - 1, 0))
    x, y, z = 18 + shift[0], -38.0, 112 + shift[1]
    p = c.part((x - 70, y - 60, z - 50), (x + 70, y + 60, z + 50))
    p.paint(np.maximum(p.ellipsoid((x, y, z), (66, 54, 46)), p.inner + 3), -95.0)
    p.paint(np.maximum(p.ellipsoid((x, y, z), (60, 48, 40)), p.inner + 6), 125 + 8 * p.coarse)
    p.paint(p.ellipsoid((x + 12, y, z + 4), (38, 28, 26)), 165.0)


def _spine(c: Canvas, rng: np.random.Generator) -> None:
    """Vertebrae with cortex and spongy bone, discs, canal with its sac, arches and processes."""
    middle, density = 31 + rng.normal(0, 1.5), rng.uniform(150, 230)
    p = c.part((-48, middle - 25, -FAR), (48, FAR, FAR))
    level = (p.z - rng.uniform(0, 36)) % 36 - 18
    across = np.abs(p.x)
    column = np.maximum(p.pillar(0, middle, 23, 18), 0.8 * (p.y - middle - 14 + (p.x / 14) ** 2))
    body = np.maximum(column - level * level / 216, np.abs(level) - 14)
    canal = p.pillar(0, middle + 25, 10, 9)
    p.paint(column, 92.0)
    p.paint(body, 430.0, BONE)
    p.paint(body + 2.6, density + 28 * p.fine, BONE)
    p.paint(canal - 6, 60.0)
    arch = np.maximum(canal - 6, np.abs(level) - 12)
    spinous = np.maximum.reduce([across - 3.6, np.abs(p.y - middle - 46) - 15, np.abs(level + 4) - 10])
    cross = np.maximum.reduce([np.abs(p.y - middle - 24 - 0.1 * across) - 4, across - 40, np.abs(level) - 6])
    facets = np.maximum((np.hypot(across - 16, p.y - middle - 31) - 7), np.abs(level + 12) - 10)
    p.paint(np.minimum(np.minimum(arch, spinous), np.minimum(cross, facets)), 360.0, BONE)
    p.paint(canal, -40.0)
    p.paint(p.pillar(0, middle + 25, 8, 7), 32.0)


def _bowel(c: Canvas, rng: np.random.Generator) -> None:
    """Small bowel loops, colon with stool and gas; what is painted later lies in front of them."""
    starts = rng.uniform((-88, -92, -125), (88, -8, 8), (80, 3))
    ends = starts + rng.normal(0, 13, (80, 3))
    radii = rng.uniform(9, 14, 80)
    contents = rng.choice([25.0, 40.0, 55.0, -700.0], 80, p=[0.35, 0.3, 0.28, 0.07])
    for start, end, radius, content in zip(starts.tolist(), ends.tolist(), radii.tolist(), contents.tolist(), strict=True):
        for p, loop in c.tube((tuple(start), tuple(end), radius, radius)):
            inside = np.maximum(loop, p.inner + 4)
            p.paint(inside, 88.0)
            p.paint(inside + 3, content + 6 * p.fine)
    drop = rng.normal(0, 8)
    path: list[tuple[float, float, float, float]] = [
        (-106, 8, -125, 21), (-108, 2, -80, 22), (-98, -18, -52, 19), (-62, -78, -52 + drop, 17), (0, -92, -58 + drop, 16),
        (60, -78, -42 + drop, 16), (104, -12, 8, 15), (112, 18, -20, 13), (112, 24, -125, 13),
    ]  # fmt: skip
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(path):
        level = (ay + by) / 2 + rng.normal(-5, 6)
        for p, colon in c.tube(((ax, ay, az), (bx, by, bz), ar, br), 5):
            shape = np.maximum(colon - 1.5 * p.fine, p.inner + 3)
            p.paint(shape, 75.0)
            p.paint(shape + 3, np.where((p.y < level) | (p.fine > 1.2), -880.0, 20 + 45 * p.fine))


def _organs(c: Canvas, rng: np.random.Generator) -> None:
    """Stomach, pancreas, spleen, liver with fissure and gallbladder, kidneys in their fat."""

    def about(x: float, y: float, z: float) -> Point:
        dx, dy, dz = rng.normal(0, 4, 3).tolist()
        return x + dx, y + dy, z + dz

    def around(centre: Point, reach: float) -> Canvas:
        x, y, z = centre
        return c.part((x - reach, y - reach, z - reach), (x + reach, y + reach, z + reach))

    hu = rng.uniform(98, 120)
    centre = about(56, -40, 32)
    p = around(centre, 60)
    stomach = p.ellipsoid(centre, (44, 42, 46)) + 3 * p.coarse
    stomach = np.maximum.reduce([stomach, p.inner + 5, 0.6 * p.left + 3])
    p.paint(stomach, 78.0)
    gas, fluid = rng.uniform(-68, -40), rng.uniform(10, 60)
    p.paint(stomach + 5, np.where(p.y < gas, -900.0, fluid + 5 * p.coarse))
    path: list[Point] = [about(*point) for point in ((-30, -12, -8), (-4, -26, 4), (34, -18, 12), (76, 2, 24))]
    for a, b in pairwise(path):
        for p, pancreas in c.tube((a, b, 10, 9), 5):
            p.paint(pancreas + 2 * p.fine, 88 + 14 * p.fine)

    centre = about(100, 24, 32)
    p = around(centre, 72)
    spleen = p.ellipsoid(centre, (42 + rng.normal(0, 4), 60, 48 + rng.normal(0, 6)))
    spleen = np.maximum.reduce([spleen, p.inner + 3, 0.6 * p.left + 2, -p.ellipsoid((44, -6, 30), (60, 64, 90))])
    p.paint(spleen, hu + rng.uniform(2, 20) + 4 * p.fine, SPLEEN)

    p = c.part((-FAR, -FAR, -100), (100, FAR, 100))
    right = p.ellipsoid(about(-72, -10, 12), (90, 88, 88 + rng.normal(0, 6)))
    # The visceral surface rises from the right side to the midline.
    right = np.maximum(right, 0.85 * (rng.normal(-62, 6) + 0.5 * (p.x + 150) + 3 * p.coarse - p.z))
    left = p.ellipsoid(about(4, -56, 30), (72 + rng.normal(0, 8), 36, 36))
    blend = np.clip(0.5 + 0.5 * (left - right) / 25, 0, 1)
    liver = left + (right - left) * blend - 25 * blend * (1 - blend) + 1.5 * p.coarse
    liver = np.maximum(np.maximum(liver, p.inner + 3), np.maximum(0.6 * p.right + 2, 3 - p.pillar(6, 26, 42, 44)))
    p.liver[:] = liver
    p.paint(liver, hu + 4 * p.fine + 3 * p.coarse, LIVER)
    p = c.part((-30, -110, -20), (10, -40, 60))
    slit = np.abs(p.x + 10 + 0.15 * (p.y + 50) + 2 * p.coarse) - 2.2
    p.paint(np.maximum.reduce([slit, np.abs(p.y + 70) - 24, np.abs(p.z - 18) - 34]), -70.0)
    centre = about(-48, -64, -28)
    p = around(centre, 30)
    bile = p.ellipsoid(centre, (13, 17, 24))
    p.paint(bile - 2, 55.0)
    p.paint(bile, 10.0)

    cortex = rng.uniform(165, 205)
    for side, (kx, ky, kz) in ((-1, about(-68, 34, -14)), (1, about(68, 33, -4))):
        size = rng.normal(1, 0.06)
        p = around((kx, ky, kz), 72)
        # The upper poles lean to the midline, the sinus opens towards it.
        p.x = p.x + side * 0.18 * (p.z - kz)
        kidney = p.ellipsoid((kx, ky, kz), (27 * size, 23 * size, 54 * size)) + 0.8 * p.coarse
        sinus = p.ellipsoid((kx - side * 15, ky - 5, kz), (17, 9, 24))
        p.paint(np.maximum(kidney - 6, p.inner + 1), -100.0)
        p.paint(kidney, cortex + 5 * p.fine, KIDNEY)
        p.paint(kidney + 8, cortex - 45 + 22 * p.fine, KIDNEY)
        p.paint(np.maximum(sinus, kidney + 2), -75.0)
        p.paint(np.maximum(sinus + 6, kidney + 9), 18.0)


def _vessels(c: Canvas, rng: np.random.Generator) -> None:
    """Aorta and vena cava, their branches, the portal vein, and the trees of the liver and the mesentery."""
    artery, vein = rng.uniform(160, 210), rng.uniform(135, 165)
    arteries: list[Tube] = [
        ((8, 0, 140), (7, -2, -125), 11, 9), ((7, -10, 14), (5, -26, -2), 4, 4), ((5, -26, -2), (3, -32, -70), 4, 3),
        ((8, -10, 28), (10, -28, 30), 4, 3.5), ((10, -28, 30), (86, 10, 34), 3.5, 2.5),
        ((6, -4, -6), (-46, 28, -12), 3, 3), ((6, -4, -4), (46, 26, -6), 3, 3),
    ]  # fmt: skip
    veins: list[Tube] = [
        ((-20, -4, 100), (-21, -1, -125), 12, 10), ((-20, -6, -8), (-48, 26, -14), 5, 4), ((-20, -8, -2), (48, 22, -2), 5, 4),
        ((-4, -24, -30), (-8, -22, 2), 6, 6), ((-8, -22, 2), (-44, -14, 18), 7, 6), ((-6, -23, 0), (80, 6, 28), 4.5, 4),
    ]  # fmt: skip
    for tubes, hu in ((veins[1:], vein), (arteries[1:], artery), (veins[:1], vein), (arteries[:1], artery)):
        for tube in tubes:
            for p, shape in c.tube(tube):
                p.paint(shape, hu, VESSEL if tube[2] > 8 else OTHER)
    portal, hepatic = (-44.0, -14.0, 18.0), (-20.0, -4.0, 66.0)
    steps = np.array([(-30, -2, -4), (-14, -10, 26), (22, -30, 8), (-34, 6, -14), (-22, -28, -10), (18, -34, -14)])
    grown = _trees(rng, np.array([portal] * 3 + [hepatic] * 3), steps + rng.normal(0, 7, (6, 3)), 5, 5)
    c.paint(c.tubes(grown), vein + 12, None, only=LIVER)
    starts = np.array([(4.0, -30.0, height) for height in (-15, -25, -40, -55)])
    grown = _trees(rng, starts, rng.uniform((-25, -22, -30), (25, -8, -12), (4, 3)), 3, 4)
    c.paint(c.tubes(grown), artery - 20, None, only=OTHER)


def _trees(rng: np.random.Generator, starts: Floats, steps: Floats, radius: float, generations: int) -> Iterator[Tube]:
    """Vessels (N, 3) that split in two, generation by generation, children shorter and, as Murray's law has it, thinner."""
    for _ in range(generations):
        ends = starts + steps
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            yield (a[0], a[1], a[2]), (b[0], b[1], b[2]), radius, 0.79 * radius
        toss = rng.standard_normal(steps.shape)
        away = steps[:, [1, 2, 0]] * toss[:, [2, 0, 1]] - steps[:, [2, 0, 1]] * toss[:, [1, 2, 0]]  # across the vessel
        length = rng.uniform(0.45, 0.8, (len(steps), 1)) * np.linalg.norm(steps, axis=1, keepdims=True)
        away *= length / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-9)
        steps = 0.78 * np.concatenate([steps + away, steps - away])
        starts, radius = np.concatenate([ends, ends]), 0.79 * radius
