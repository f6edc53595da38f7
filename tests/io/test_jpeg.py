import io

import numpy as np
import pytest
from encoded import noise
from PIL import Image

from pidsampler import PidSamplerError
from pidsampler.io import pictures

KINDS = [
    {},
    {"progressive": True},
    {"restart_marker_blocks": 3},
    {"restart_marker_rows": 1, "progressive": True},
    {"subsampling": 0},
]


def jpeg(mode="RGB", **options):
    """A JPEG of 40x30 whose blocks all differ, so that each that lacks shows."""
    rough = noise(5, 7, 3).repeat(8, 0).repeat(8, 1)[:30, :40] // 2 + noise(30, 40, 3) // 4
    file = io.BytesIO()
    Image.fromarray(rough).convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def pixels(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    return pictures.read(tmp_path / "a.jpg").pixels


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_only_the_end_marker_lacks(tmp_path, mode, options):
    data = jpeg(mode, **options)
    assert data.endswith(b"\xff\xd9")
    whole = pixels(tmp_path, data)
    for lacking in (data[:-2], data[:-1], data[:-2] + bytes(9)):
        assert np.array_equal(pixels(tmp_path, lacking), whole)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_what_lacks_more_is_refused_or_decodes_to_the_same(tmp_path, options):
    """The last bytes may hold nothing that a pixel of 8 bits shows."""
    data = jpeg(**options)
    whole, refused = pixels(tmp_path, data), 0
    cuts = [*range(3, 25), 100, len(data) // 3, len(data) // 2]
    for cut in cuts:
        try:
            assert np.array_equal(pixels(tmp_path, data[:-cut]), whole)
        except PidSamplerError as error:
            assert "truncated" in str(error)  # noqa: PT017
            refused += 1
    assert refused >= len(cuts) - 4


@pytest.mark.parametrize("progressive", [False, True])
def test_what_ends_before_a_restart_or_a_scan_is_refused(tmp_path, progressive):
    data = jpeg(restart_marker_blocks=3, subsampling=0, progressive=progressive)
    for marker in (b"\xff\xd0", b"\xff\xd1", *([b"\xff\xda"] if progressive else [])):
        with pytest.raises(PidSamplerError, match="truncated"):
            pixels(tmp_path, data[: data.rindex(marker)])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\xff\xc1\0\x0b\x0c", r"a\.jpg is a JPEG of 12 bits, which is not read: convert it to a JPEG of 8 bits"),
        (b"\xff\xf7\0\x0b\x08", "is a JPEG-LS, which is not read"),
        (b"\xff\xc5\0\x0b\x08", "is a hierarchical JPEG, which is not read"),
    ],
)
def test_kinds_that_are_not_read_are_named(tmp_path, frame, message):
    data = jpeg("L")
    with pytest.raises(PidSamplerError, match=message):
        pixels(tmp_path, data.replace(b"\xff\xc0\0\x0b\x08", frame, 1))


@pytest.mark.parametrize("between", [b"", b"junk", b"\xff\xff", b"\xff\xd0"], ids=repr)
def test_scans_without_end_are_refused(tmp_path, between):
    """A short scan costs as much time as the picture has blocks, and a file may hold any number of them."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 100).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    first = data.index(b"\xff\xda")
    start = data.index(b"\xff\xda", first + 2)
    scan = between + data[start : data.index(b"\xff", start + 10)]  # with its header; its few data have no marker
    (tmp_path / "a.jpg").write_bytes(data[:start] + scan * 400 + data[start:])
    assert pictures.read(tmp_path / "a.jpg").pixels.shape == (64, 64, 1)
    (tmp_path / "a.jpg").write_bytes(data[:start] + scan * 500 + data[start:])
    with pytest.raises(PidSamplerError, match="is a JPEG of more than 500 scans, which is not read"):
        pictures.read(tmp_path / "a.jpg")
