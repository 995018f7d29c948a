"""Pictures: exact values in every mode, nothing dropped without a word, and no header believed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(2)
GREY = RNG.integers(0, 256, (30, 20), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (30, 20, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (30, 20), dtype=np.uint16)
PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (10, 20, 30))


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code
    return str(caught.value)


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of any header. rows: with their filter bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def palette_picture() -> tuple[Pillow.Image, npt.NDArray[np.uint8]]:
    indices = GREY % 4
    picture = Pillow.frombytes("P", (20, 30), indices.tobytes())
    picture.putpalette([value for colour in PALETTE for value in colour])
    return picture, indices


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_grey_and_colour_are_exact(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    Pillow.fromarray(GREY).save(path)
    image = io.read(path)
    np.testing.assert_array_equal(image.array, GREY[None])
    assert image.geometry == Geometry.none((30, 20))
    assert image.meta == Meta(format="raster")
    Pillow.fromarray(COLOUR).save(path)
    np.testing.assert_array_equal(io.read(path).array, COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, ending: str) -> None:
    Pillow.fromarray(DEEP).save(tmp_path / f"a{ending}")
    image = io.read(tmp_path / f"a{ending}")
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, DEEP[None])


def test_white_is_zero_in_sixteen_bits_is_inverted_as_in_eight(tmp_path: Path) -> None:
    for array in (GREY, DEEP):
        path = tmp_path / "a.tif"
        Pillow.fromarray(array).save(path)
        content = path.read_bytes()
        at = content.index(struct.pack("<HHI", 262, 3, 1)) + 8
        path.write_bytes(content[:at] + struct.pack("<H", 0) + content[at + 2 :])
        np.testing.assert_array_equal(io.read(path).array[0], np.iinfo(array.dtype).max - array)


def test_float_and_integer_tiff_are_kept(tmp_path: Path) -> None:
    for array in (GREY.astype(np.float32) / 3, GREY.astype(np.int32) * -70000):
        Pillow.fromarray(array).save(tmp_path / "a.tif")
        image = io.read(tmp_path / "a.tif")
        assert image.array.dtype == array.dtype
        np.testing.assert_array_equal(image.array[0], array)


def test_nan_in_a_tiff_is_found(tmp_path: Path) -> None:
    array = GREY.astype(np.float32)
    array[7, 3] = np.nan
    Pillow.fromarray(array).save(tmp_path / "a.tif")
    assert "1 of 600 voxels NaN or infinite, the first at (7, 3)" in refused("NOT_FINITE", tmp_path / "a.tif")


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_bilevel_is_zero_and_one(tmp_path: Path, ending: str) -> None:
    Pillow.fromarray(GREY > 100).save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(io.read(tmp_path / f"a{ending}").array[0], GREY > 100)


@pytest.mark.parametrize("ending", [".png", ".tif", ".gif", ".bmp"])
def test_a_palette_picture_keeps_its_indices_and_colours(tmp_path: Path, ending: str) -> None:
    picture, indices = palette_picture()
    picture.save(tmp_path / f"a{ending}")
    image = io.read(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(image.array[0], indices)
    assert image.meta.palette is not None
    assert image.meta.palette[:4] == PALETTE


def test_a_grey_palette_in_order_is_grey(tmp_path: Path) -> None:
    picture = Pillow.frombytes("P", (20, 30), GREY.tobytes())
    picture.putpalette([level for level in range(256) for _ in range(3)])
    picture.save(tmp_path / "a.png")
    image = io.read(tmp_path / "a.png")
    assert image.meta.palette is None
    np.testing.assert_array_equal(image.array[0], GREY)


@pytest.mark.parametrize(("opaque", "notes"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_named_where_it_says_something(tmp_path: Path, mode: str, opaque: bool, notes: int) -> None:
    alpha = np.full((30, 20), 255, np.uint8)
    alpha[0, :3] = 255 if opaque else 7
    colours = COLOUR if mode == "RGBA" else GREY[..., None]
    Pillow.frombytes(mode, (20, 30), np.concatenate([colours, alpha[..., None]], -1).tobytes()).save(tmp_path / "a.png")
    image = io.read(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, colours.transpose(2, 0, 1))
    assert len(image.meta.notes) == notes
    assert opaque or image.meta.notes == ("alpha was dropped: 3 of 600 pixels are not opaque",)


def test_sixteen_bit_colours_lose_their_lower_bits_and_say_so(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (2, 3, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(3, 2, rows, depth=16, colour=2))
    image = io.read(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, (values >> 8).transpose(2, 0, 1))
    assert image.meta.notes == ("16-bit colours were read with their upper 8 bits",)


def test_other_colour_spaces_are_converted_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Pillow.fromarray(COLOUR).convert("CMYK").save(path)
    image = io.read(path)
    assert (image.channels, image.meta.notes) == (3, ("converted from CMYK to RGB",))
    assert np.abs(image.array.astype(int) - COLOUR.transpose(2, 0, 1)).max() <= 1
    Pillow.frombytes("LAB", (20, 30), COLOUR.tobytes()).save(path)
    assert "pixels of mode LAB" in refused("UNSUPPORTED_SYNTAX", path)


def test_jpeg_is_lossy_wherever_it_hides(tmp_path: Path) -> None:
    Pillow.fromarray(GREY).save(tmp_path / "a.jpg")
    Pillow.fromarray(GREY).save(tmp_path / "b.tif", compression="jpeg")
    Pillow.fromarray(GREY).save(tmp_path / "c.png", format="JPEG")
    Pillow.fromarray(GREY).save(tmp_path / "d.tif", compression="tiff_lzw")
    assert [io.read(tmp_path / name).meta.lossy for name in ("a.jpg", "b.tif", "c.png", "d.tif")] == [True, True, True, False]


TURNED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", list(TURNED))
def test_exif_orientation_is_honoured_and_noted(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path, plain = tmp_path / f"a{ending}", tmp_path / f"plain{ending}"
    Pillow.fromarray(GREY).save(path, exif=exif)
    Pillow.fromarray(GREY).save(plain)
    image = io.read(path)
    np.testing.assert_array_equal(image.array[0], TURNED[orientation](io.read(plain).array[0]))
    assert io.peek(path).geometry == image.geometry
    assert image.array.flags.c_contiguous
    assert bool(image.meta.notes) is (orientation != 1)


@pytest.mark.parametrize("ending", [".tif", ".gif", ".png"])
def test_a_frame_is_chosen(tmp_path: Path, ending: str) -> None:
    ramp = np.arange(600).astype(np.uint8).reshape(30, 20)  # every level, so that a GIF keeps them in order
    frames = [Pillow.fromarray(ramp), Pillow.fromarray(255 - ramp)]
    path = tmp_path / f"a{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert io.peek(path).volumes == 2
    assert "2 frames of 30x20" in refused("WRONG_DIMENSION", path)
    assert "--frame 0 to --frame 1" in refused("WRONG_DIMENSION", path, frame=2)
    for index, frame in enumerate((ramp, 255 - ramp)):
        np.testing.assert_array_equal(io.read(path, Choices(frame=index)).array[0], frame)


def test_a_png_of_50000_squared_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(50000, 50000, b""))
    line = refused("TOO_LARGE", tmp_path / "a.png")
    assert "50000x50000" in line
    assert "1000000000 pixels" in line
    with pytest.raises(InputError):
        io.peek(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".gif", ".bmp"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_pictures_say_their_bytes(tmp_path: Path, ending: str, part: float) -> None:
    path = tmp_path / f"a{ending}"
    Pillow.fromarray(RNG.integers(0, 256, (200, 200), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    kept = int(part * len(content))
    path.write_bytes(content[:kept])
    line = refused("TRUNCATED", path)
    assert f"found {kept} bytes" in line
    if ending == ".bmp":
        assert f"expected {len(content)} bytes" in line


def test_a_png_says_how_many_bytes_its_chunk_needs(tmp_path: Path) -> None:
    content = png(20, 30, b"".join(b"\0" + row.tobytes() for row in GREY))
    (tmp_path / "a.png").write_bytes(content[:-30])
    assert f"expected {len(content) - 12} bytes" in refused("TRUNCATED", tmp_path / "a.png")


def test_a_flipped_bit_in_a_png_is_found_by_its_checksum(tmp_path: Path) -> None:
    content = bytearray(png(20, 30, b"".join(b"\0" + row.tobytes() for row in GREY)))
    content[200] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "'IDAT' at byte 33" in refused("CORRUPT_PIXELS", tmp_path / "a.png")


def test_peek_agrees_with_read(tmp_path: Path) -> None:
    alpha = Pillow.fromarray(np.dstack([COLOUR, GREY]))
    pictures = {
        "grey.png": Pillow.fromarray(GREY),
        "alpha.png": alpha,
        "deep.png": Pillow.fromarray(DEEP),
        "bits.png": Pillow.fromarray(GREY > 9),
        "float.tif": Pillow.fromarray(GREY.astype(np.float32)),
        "ink.tif": Pillow.fromarray(COLOUR).convert("CMYK"),
        "colour.jpg": Pillow.fromarray(COLOUR),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        told, image = io.peek(tmp_path / name), io.read(tmp_path / name)
        assert (told.geometry, told.channels, told.dtype) == (image.geometry, image.channels, image.array.dtype), name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kind=st.sampled_from([(1, "u1"), (3, "u1"), (1, "u2"), (1, "i4"), (1, "f4")]),
    ending=st.sampled_from([".png", ".tif", ".bmp"]),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read_again_or_refused(
    tmp_path: Path, shape: tuple[int, int], kind: tuple[int, str], ending: str, seed: int
) -> None:
    channels, dtype = kind
    array = np.random.default_rng(seed).integers(0, 256, (channels, *shape)).astype(dtype)
    image = Image(array, Geometry.none(shape))
    path = tmp_path / f"a{ending}"
    holds = {".png": ("u1", "u2"), ".tif": ("u1", "u2", "i4", "f4"), ".bmp": ("u1",)}[ending]
    if dtype not in holds:
        with pytest.raises(InputError, match="BAD_OPTION"):
            io.write(image, path, overwrite=True)
        return
    io.write(image, path, overwrite=True)
    again = io.read(path)
    assert again.array.dtype == array.dtype
    np.testing.assert_array_equal(again.array, array)


def test_palettes_and_masks_are_written_as_they_are(tmp_path: Path) -> None:
    indices = (GREY % 4)[None]
    io.write(Image(indices, Geometry.none((30, 20)), Meta(palette=PALETTE)), tmp_path / "a.png")
    again = io.read(tmp_path / "a.png")
    np.testing.assert_array_equal(again.array, indices)
    assert again.meta.palette == PALETTE
    io.write(Image(indices > 1, Geometry.none((30, 20))), tmp_path / "b.png")
    np.testing.assert_array_equal(io.read(tmp_path / "b.png").array, indices > 1)


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="WRONG_DIMENSION") as caught:
        io.write(Image(np.zeros((1, 2, 3, 4), np.uint8), Geometry.none((2, 3, 4))), tmp_path / "a.png")
    assert "2x3x4" in caught.value.found
    assert list(tmp_path.iterdir()) == []


def test_the_real_fundus_pictures_open(shared_data: Path) -> None:
    drive = shared_data / "drive" / "training"
    image = io.read(drive / "images" / "21_training.tif")
    mask = io.read(drive / "1st_manual" / "21_manual1.gif")
    assert image.array.shape == (3, 584, 565)
    assert (mask.array.shape, mask.meta.palette) == ((1, 584, 565), None)
    assert set(np.unique(mask.array)) == {0, 255}


def test_a_chunk_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    """Pillow would ask for what the chunk after the pixels claims."""
    import tracemalloc

    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") - 4
    content[at : at + 4] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert f"{len(content)} bytes of the file" in refused("TRUNCATED", path)
        with pytest.raises(InputError, match="TRUNCATED"):
            io.peek(path)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_large_tiff_takes_little_more_than_twice_its_size(tmp_path: Path) -> None:
    """Peak of a process of its own: Pillow's copy of 4 bytes a pixel, ours of 3, and a band."""
    import subprocess
    import sys

    code = """
import resource, sys
from pathlib import Path
from hounsfield import io
io.peek(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = io.read(Path(sys.argv[1]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / image.array.nbytes)
"""
    side = 4000
    colours = np.zeros((side, side, 3), np.uint8)
    colours[::7, ::5, 1] = 200
    Pillow.fromarray(colours).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    np.testing.assert_array_equal(io.read(tmp_path / "a.tif").array, colours.transpose(2, 0, 1))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) < 2.8
