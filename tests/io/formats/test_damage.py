"""Whatever happens to a file's bytes, reading it gives an image or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from hounsfield import io
from hounsfield.core.errors import HounsfieldError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image

RNG = np.random.default_rng(9)
VOLUME = Image(RNG.integers(0, 300, (1, 6, 7, 8)).astype(np.int16), Geometry.from_spacing((6, 7, 8), (1, 2, 3)))


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of one small file of each kind."""
    folder = tmp_path_factory.mktemp("intact")
    for ending in (".nii", ".nii.gz", ".npy", ".npz"):
        io.write(VOLUME, folder / f"a{ending}")
    for ending in (".png", ".jpg", ".tif", ".gif", ".bmp"):
        Pillow.fromarray(RNG.integers(0, 255, (40, 30), dtype=np.uint8)).save(folder / f"a{ending}")
    content = {path.name.removeprefix("a"): path.read_bytes() for path in folder.iterdir()}
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm", "MR_small_implicit.dcm"):
        content[name] = Path(str(get_testdata_file(name, download=False))).read_bytes()
    return content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_no_damage_is_met_with_anything_but_a_named_error(
    tmp_path: Path, intact: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(intact)))
    content = bytearray(intact[name])
    # Headers are where it hurts.
    reach = data.draw(st.sampled_from([min(1500, len(content)), len(content)]))
    places = st.tuples(st.integers(0, reach - 1), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    for at, value in data.draw(st.lists(places, max_size=4)):
        content[at] = value
    if data.draw(st.integers(0, 5)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / f"damaged{'' if name[0] == '.' else '-'}{name}"
    path.write_bytes(content)
    try:
        image = io.read(path)
    except HounsfieldError as error:
        assert str(error).startswith(f"{error.code} {path}: found ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert image.array.shape[1:] == image.geometry.shape
        assert np.isfinite(image.array).all()
