"""Latent files: the types, forms and names that diffusion models leave."""

import json
import os
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from pidsampler import PidSamplerError, Upscaler
from pidsampler.io import latents
from pidsampler.upscale.source import Source

Z = np.random.default_rng(0).standard_normal((1, 4, 2, 3)).astype(np.float32)
MARK = {"latent_format_version_0": np.zeros(0, np.float32)}


def test_comfyui_writes_latents_as_they_are(tmp_path):
    save_file({"latent_tensor": Z, **MARK}, tmp_path / "a.latent", metadata={"prompt": "{}"})
    assert np.array_equal(latents.read(tmp_path / "a.latent"), Z)


def test_comfyui_once_wrote_them_scaled(tmp_path):
    """Files without the mark hold 0.18215 times the latent, as LoadLatent takes them."""
    save_file({"latent_tensor": Z * np.float32(0.18215)}, tmp_path / "a.latent")
    assert np.allclose(latents.read(tmp_path / "a.latent"), Z, rtol=1e-6)
    save_file({"latent_tensor": Z}, tmp_path / "a.safetensors")  # of anybody's: as it is
    assert np.array_equal(latents.read(tmp_path / "a.safetensors"), Z)


@pytest.mark.parametrize(
    "dtype", [np.float16, ">f4", np.float64, np.longdouble, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
def test_floats_of_any_width_are_taken(dtype):
    array = Z.astype(dtype)
    assert np.array_equal(latents.batched(array), array.astype(np.float32))


@pytest.mark.parametrize("shape", [(4, 2, 3), (1, 4, 2, 3), (1, 4, 1, 2, 3)])
def test_one_latent_in_any_form(shape):
    assert np.array_equal(latents.batched(Z.reshape(shape)), Z)


def test_a_latent_of_one_frame_is_decoded():
    up, z = Upscaler.load("gaussian", "cpu"), np.ones((1, 192, 1, 1, 2), np.float32)
    assert np.array_equal(up(z).array, up(z[:, :, 0]).array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 5, 2, 3), np.float32), "a video of 5 frames: pass one"),
        (
            np.zeros((4, 2, 3), "V2"),
            r"the latent is \|V2 of shape \(4, 2, 3\): bfloat16 perhaps, which",
        ),
        (np.zeros((4, 2, 3), np.complex64), "the latent is complex64 .* expected floats"),
        (np.zeros((4, 2, 3), np.int32), "the latent is int32 .* expected floats"),
        (np.zeros((4, 2, 3), ml_dtypes.int4), "the latent is int4 .* expected floats"),
        (np.zeros((2, 3), np.float32), "expected floats of shape"),
    ],
)
def test_what_is_no_latent(tmp_path, array, message):
    with pytest.raises(PidSamplerError, match=message):
        latents.batched(array)
    if array.dtype.kind != "V" or array.dtype.type is np.void:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(PidSamplerError, match=rf"a\.npy: .*{message}"):
            latents.read(tmp_path / "a.npy")


def test_bfloat16_in_npy_is_what_numpy_makes_of_it(tmp_path):
    np.save(tmp_path / "a.npy", Z.astype(ml_dtypes.bfloat16))
    with pytest.raises(PidSamplerError, match="bfloat16 perhaps"):
        latents.read(tmp_path / "a.npy")


def npy_header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_of_several_arrays_the_others_are_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.npy", "w") as file:
            file.write(npy_header((1 << 40,)))
        with archive.open("latent.npy", "w") as file:
            np.save(file, Z)
    assert np.array_equal(latents.read(tmp_path / "a.npz"), Z)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (npy_header((4, 1 << 20, 1 << 20)), "has 17592186044416 bytes, expected at most 536870912"),
        (npy_header((4, -2, 3)), "it is an array of float32 and shape"),
        (npy_header((4, 2, 3)), "not a readable"),
        (npy_header((4, 2, 3), "|O"), "it is an array of object"),
        (npy_header((4, 2, 3), [("a", "<f4")]), "it is an array of"),
        (b"\x93NUMPY\x03\x00", "not a readable"),
    ],
)
def test_headers_promise_nothing(tmp_path, suffix, header, message):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(header + bytes(8))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("latent.npy", header + bytes(8))
    with pytest.raises(PidSamplerError, match=message):
        latents.read(path)


def safetensors(head, data=b""):
    return len(head).to_bytes(8, "little") + head + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (safetensors(b"{}"), "holds no arrays: name one of them 'latent'"),
        ((1 << 23).to_bytes(8, "little") + b"{}", "its header would take 8388608 bytes of a file of 10"),
        (
            safetensors(b'{"latent":{"dtype":"F8_E4M3","shape":[1,2,2],"data_offsets":[0,4]}}', bytes(4)),
            "its tensor latent is F8_E4M3, expected one of F64, F32, F16, BF16",
        ),
        (
            safetensors(b'{"latent":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                        b'"latent":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
            "it has the name 'latent' twice",
        ),
    ],
)  # fmt: skip
def test_hostile_safetensors(tmp_path, data, message):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(PidSamplerError, match=message):
        latents.read(tmp_path / "a.safetensors")


def test_of_safetensors_the_named_tensor_only_is_read(tmp_path):
    head = json.dumps({
        "other": {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]},
        "latent": {"dtype": "F32", "shape": list(Z.shape), "data_offsets": [1 << 40, (1 << 40) + Z.nbytes]},
    }).encode()  # fmt: skip
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(safetensors(head))
        file.seek(1 << 40, os.SEEK_CUR)  # a hole of the file system, of no bytes
        file.write(Z.tobytes())
    assert np.array_equal(latents.read(tmp_path / "a.safetensors"), Z)


def test_holes_between_tensors_are_refused_by_name(tmp_path):
    head = b'{"latent":{"dtype":"F32","shape":[1,1,1],"data_offsets":[4,8]}}'
    (tmp_path / "a.latent").write_bytes(safetensors(head, bytes(8)))
    with pytest.raises(PidSamplerError, match="its tensor latent begins at byte 4, but the one before it ends at 0"):
        latents.read(tmp_path / "a.latent")


def test_fortran_order_is_kept(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(Z))
    assert np.array_equal(latents.read(tmp_path / "a.npy"), Z)


def stored(path):
    """The same latent in each kind of file, under names that end alike."""
    np.save(path / "npy", Z)
    np.savez(path / "npz", latent=Z)
    save_file({"latent": Z}, path / "safetensors")
    return [path / "npy.npy", path / "npz.npz", path / "safetensors"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".png", ".bin"])
def test_what_a_file_holds_tells_its_kind(tmp_path, suffix):
    for path in stored(tmp_path):
        named = path.rename(tmp_path / f"{path.stem} as{suffix}")
        assert np.array_equal(latents.read(named), Z)
        assert np.array_equal(Source.of(named).latent, Z)


def test_an_archive_of_something_else_is_no_latent(tmp_path):
    for name in ("a.png", "a.npy"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("word/document.xml", "text")
        with pytest.raises(PidSamplerError, match="it holds a ZIP archive"):
            Source.of(tmp_path / name)


def test_numbers_too_large_for_float32_are_named(tmp_path, recwarn):
    np.save(tmp_path / "a.npy", np.full((4, 2, 2), -1e300))
    with pytest.raises(PidSamplerError, match=r"a\.npy: .*numbers up to 1e\+300, too large for float32"):
        latents.read(tmp_path / "a.npy")
    save_file({"latent_tensor": np.full((4, 2, 2), -2e38, np.float32)}, tmp_path / "a.latent")
    with pytest.raises(PidSamplerError, match=r"a\.latent: .*numbers up to 2e\+38, too large for float32 once scaled"):
        latents.read(tmp_path / "a.latent")
    assert not recwarn.list
