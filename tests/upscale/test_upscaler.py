import hashlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import heun
from models import write_model
from PIL import Image, ImageCms
from safetensors.numpy import save_file

from pidsampler import FlowODE, FlowSDE, PidSamplerError, Row, StepTable, Upscaler, noise, timesteps
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.image.pixels import to_image, to_tensor

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (11, 13, 3), np.uint8)


@pytest.fixture(scope="module", name="gaussian")
def _gaussian():
    return Upscaler.load("gaussian")


@pytest.fixture(name="known")
def _known(tmp_path):
    """A model whose result is the 8x8 block means, enlarged, plus sigma."""

    def load(**options):
        return Upscaler.load(write_model(tmp_path / "model", **options))

    return load


def psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("name", ["chameleon.jpg", "road.jpg"])
def test_at_least_bicubic_quality_on_a_photo_reduced_4x(gaussian, repository, name):
    with Image.open(repository / "examples" / name) as image:
        photo = image.convert("RGB")
    width, height = (n // 4 * 4 for n in photo.size)
    photo = photo.crop((0, 0, width, height))
    small = photo.resize((width // 4, height // 4), Image.Resampling.BICUBIC)
    bicubic = small.resize((width, height), Image.Resampling.BICUBIC)
    result = gaussian(np.asarray(small))
    assert result.array.shape == (height, width, 3)
    assert abs(psnr(result.array, np.asarray(photo)) - psnr(np.asarray(bicubic), np.asarray(photo))) < 0.2


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_from_one_pixel_up(gaussian, height, width):
    image = np.full((height, width, 3), [200, 100, 50], np.uint8)
    array = gaussian(image).array
    assert array.shape == (4 * height, 4 * width, 3)
    assert np.abs(array.astype(int) - [200, 100, 50]).max() <= 2  # flat stays flat, up to the model's own grain


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20), st.integers(0, 20))
def test_padding_reflects(height, width, more, wider):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    tensor = to_tensor(image, size=(height + more, width + wider), backend=NumpyBackend())
    expected = np.pad(image, ((0, more), (0, wider), (0, 0)), mode="reflect") / 127.5 - 1
    assert tensor[0].transpose(1, 2, 0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_way_in_and_out(dtype):
    levels = np.arange(256, dtype=dtype) * (np.iinfo(dtype).max // 255)
    image = np.broadcast_to(levels[None, :, None], (2, 256, 3))
    backend = NumpyBackend()
    out = to_image(to_tensor(image, size=(2, 256), backend=backend), size=(2, 256), backend=backend)
    assert np.array_equal(out, np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (2, 256, 3)))


def test_out_of_range_is_clamped_not_wrapped():
    x = np.array([-1e9, -1.01, 1.01, 1e9], np.float32).reshape(1, 1, 1, 4).repeat(3, 1)
    assert to_image(x, size=(1, 4), backend=NumpyBackend())[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_stay_as_they_were(gaussian, channels):
    image = RNG.integers(1, 256, (9, 10, channels), np.uint8)  # alpha hides nothing
    result = gaussian(image).array
    assert result.shape == (36, 40, channels)
    if channels == 1:
        assert np.array_equal(gaussian(image[:, :, 0]).array, result)
        as_rgb = gaussian(image.repeat(3, axis=2)).array
        assert np.array_equal(np.rint(as_rgb.mean(axis=2)), result[:, :, 0])
    if channels in (2, 4):
        opaque = image.copy()
        opaque[:, :, -1] = 255
        found = gaussian(opaque).array
        assert (found[:, :, -1] == 255).all()
        assert np.array_equal(found[:, :, :-1], result[:, :, :-1])


def test_sixteen_bits_are_not_cut_to_eight(known):
    """Steps of a hundredth of an 8-bit level, averaged over a block by the model, add up to a visible level."""
    image = np.full((8, 8, 3), 128 * 257, np.uint16)
    assert known(channels=16)(image).array.max() == 128
    assert known(channels=16)(image + np.uint16(200)).array.max() == 129


def test_the_same_seed_gives_the_same_file_and_another_differs(gaussian, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        gaussian(RGB, seed=seed).save(tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    assert not np.array_equal(gaussian(RGB, seed=1).array, gaussian(RGB, seed=2).array)


def test_record_says_how_it_was_made(gaussian, tmp_path):
    times = [0.9990000000000001, 0.1 + 0.2, 0.0]
    result = gaussian(RGB, FlowSDE(times, eta=0.5), seed=7, degrade_sigma=0.25)
    record = json.loads(json.dumps(result.record))
    assert [t.hex() for t in record["timesteps"]] == [t.hex() for t in times]
    assert StepTable.from_json(json.dumps(record["table"])) == FlowSDE(times, eta=0.5).table()
    assert (record["seed"], record["degrade_sigma"], record["noise_frame"]) == (7, 0.25, "flow")
    assert record["scheduler"] == "FlowSDE([0.9990000000000001, 0.30000000000000004, 0.0], eta=0.5)"
    assert record["noise"] == "independent"
    assert record["model"]["name"] == "gaussian"
    assert record["model"]["sha256"] == gaussian.model.hashes
    digest = hashlib.sha256(RGB.tobytes()).hexdigest()
    assert record["input"] == {"array_sha256": digest, "width": 13, "height": 11}
    assert record["output"] == {"width": 52, "height": 44}
    assert record["device"] == "cpu"
    assert set(record["versions"]) == {"pidsampler", "python", "numpy", "pillow", "onnxruntime"}
    result.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["pidsampler"]) == record


def test_noise_of_ones_own(gaussian):
    """A function in place of the package's noise; the record names it."""

    def flat(seed, draw, shape):
        return noise.normal(seed, 0, shape)

    found = gaussian(np.zeros((5, 6, 3), np.uint8), seed=3, noise=flat)
    assert np.array_equal(found.array, gaussian(np.zeros((5, 6, 3), np.uint8), seed=3, noise="fixed").array)
    assert found.record["noise"].endswith("flat")
    assert found.record["table"] == FlowSDE(timesteps.pid()).table().to_dict()


def test_a_file_keeps_its_name_profile_and_resolution(gaussian, tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "in.png", dpi=(300, 300), icc_profile=icc)
    result = gaussian(tmp_path / "in.png")
    digest = hashlib.sha256((tmp_path / "in.png").read_bytes()).hexdigest()
    assert result.record["input"] == {"name": "in.png", "sha256": digest, "width": 13, "height": 11}
    assert np.array_equal(result.array, gaussian(RGB).array)
    assert np.array_equal(result.array, gaussian(str(tmp_path / "in.png")).array)
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as back:
        assert back.info["icc_profile"] == icc
        assert back.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_schedulers_may_be_named_made_or_tables(gaussian):
    expected = gaussian(RGB, FlowODE(timesteps.pid())).array
    assert np.array_equal(gaussian(RGB, "flow-ode").array, expected)
    assert np.array_equal(gaussian(RGB, FlowODE(timesteps.pid()).table()).array, expected)
    assert not np.array_equal(gaussian(RGB, "flow-ode@uniform:3").array, expected)
    assert np.array_equal(gaussian(RGB).array, gaussian(RGB, FlowSDE(timesteps.pid())).array)


def test_the_models_own_timesteps_are_the_default(known):
    up = known(manifest={"timesteps": [0.8, 0.3, 0]})
    assert up(RGB).record["timesteps"] == [0.8, 0.3, 0.0]
    assert up(RGB, "flow-ode").record["timesteps"] == [0.8, 0.3, 0.0]
    assert up(RGB, "flow-ode@pid").record["timesteps"] == timesteps.pid().tolist()


def test_the_record_has_the_list_as_given_for_a_scheduler_of_ones_own(gaussian):
    class Heun:
        timesteps = (0.9, 0.4, 0.0)

        def table(self):
            return heun(self.timesteps)

    record = gaussian(RGB, Heun()).record
    assert record["timesteps"] == [0.9, 0.4, 0.0]
    assert [row["t"] for row in record["table"]["rows"]] == [0.9, 0.4, 0.4]
    assert gaussian(RGB, heun([0.9, 0.4, 0.0])).record["timesteps"] == [0.9, 0.4, 0.4, 0.0]


def test_the_models_prediction_type_is_put_into_the_table(known):
    up = known(prediction="x0", manifest={"prediction": "x0"})
    result = up(RGB)
    assert {(row["p"], row["q"]) for row in result.record["table"]["rows"]} == {(0.0, 1.0)}
    padded = np.pad(RGB, ((0, 5), (0, 3), (0, 0)), mode="reflect").astype(float)
    means = padded.reshape(2, 8, 2, 8, 3).mean((1, 3)).repeat(32, 0).repeat(32, 1)[:44, :52]
    assert np.abs(result.array - means).max() < 0.51


@pytest.mark.parametrize(("frame", "keep"), [("flow", 1 - 0.25), ("vp", math.sqrt(1 - 0.25**2))])
def test_degrade_sigma_adds_noise_in_the_models_frame(known, frame, keep):
    """The known model shows its latent: keep*z + sigma*N(stream 1), and sigma itself once more."""
    sigma, seed = 0.25, 9
    up = known(manifest={"noise_frame": frame}, add=-sigma)
    gray = np.full((16, 24, 3), 40, np.uint8)
    latent = keep * (40 / 127.5 - 1) + sigma * noise.normal(seed, 0, (4, 2, 3), stream=1)
    expected = np.clip((latent[:3] + 1) * 127.5, 0, 255).transpose(1, 2, 0).repeat(32, 0).repeat(32, 1)
    result = up(gray, seed=seed, degrade_sigma=sigma)
    assert np.abs(result.array - expected).max() < 0.51
    assert result.record["noise_frame"] == frame


def test_four_channels_without_a_manifest_are_sdxls_frame(known):
    assert known(channels=4)(RGB).record["noise_frame"] == "vp"
    assert known(channels=16)(RGB).record["noise_frame"] == "flow"


def test_degrade_sigma_matters_and_is_checked(gaussian):
    results = [gaussian(RGB, degrade_sigma=s).array for s in (0.0, 0.2, 0.8)]
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])
    with pytest.warns(UserWarning, match=r"degrade_sigma=0\.9 is above 0\.8, the most PiD is trained for"):
        gaussian(RGB, degrade_sigma=0.9)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(PidSamplerError, match=r"degrade_sigma=.* must be a finite number in \[0, 1\]"):
            gaussian(RGB, degrade_sigma=bad)


@pytest.mark.parametrize("name", ["z.npy", "z.npz", "z.safetensors", "named.npz", "half.npy", "bf16.safetensors"])
def test_latent_files_are_decoded_without_added_noise(known, tmp_path, name):
    latent = RNG.uniform(-0.5, 0.5, (4, 2, 3)).astype(np.float32).astype(np.float16)
    path = tmp_path / name
    stored = latent if name == "half.npy" else latent.astype(np.float32)
    if name == "bf16.safetensors":
        import ml_dtypes

        stored = latent.astype(ml_dtypes.bfloat16)
        latent = stored
    if name.endswith(".npy"):
        np.save(path, stored)
    elif name == "named.npz":
        np.savez(path, latent_tensor=stored[None], other=np.zeros(3))
    elif name.endswith(".npz"):
        np.savez(path, stored)
    else:
        save_file({"any": stored}, path)
    result = known(add=-0.25)(path, degrade_sigma=0.25)
    expected = (latent[:3].astype(float) + 1) * 127.5
    assert np.abs(result.array - expected.transpose(1, 2, 0).repeat(32, 0).repeat(32, 1)).max() < 0.51
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.record["input"] == {"name": name, "sha256": digest, "latent_shape": [1, 4, 2, 3]}
    assert result.record["degrade_sigma"] == 0.25


def test_a_float_array_is_a_latent(known):
    up = known()
    latent = RNG.uniform(-0.5, 0.5, (4, 2, 3))
    assert np.array_equal(up(latent).array, up(latent[None].astype(np.float32)).array)


def test_decoding_an_images_own_latent_is_the_same(gaussian):
    tensor = to_tensor(RNG.integers(0, 256, (16, 24, 3), np.uint8), size=(16, 24), backend=NumpyBackend())
    image = np.rint((tensor[0].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(gaussian(gaussian.model.encode(tensor), seed=3).array, gaussian(image, seed=3).array)


def test_fixed_shapes_are_padded_to_and_cropped(known):
    """The public SDXL export takes one size only; a smaller picture is padded, a larger one is made in tiles of it."""
    up = known(size=(16, 24))
    assert up(RGB).array.shape == (44, 52, 3)
    assert up(np.zeros((17, 24, 3), np.uint8)).array.shape == (68, 96, 3)


def test_the_network_is_called_once_a_row_and_previews_come(gaussian):
    seen = []
    gaussian(RGB, on_step=lambda run, m: seen.append((run.index, run.predict_x0(m).shape)))
    assert seen == [(k, (1, 3, 64, 64)) for k in range(4)]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"uint8 of shape \(4, 4, 5\), expected uint8, uint16 or floats"),
        (np.zeros((4, 4, 3), np.int64), "the image is int64"),
        (
            io.BytesIO(b"a file"),
            "the image is a BytesIO, expected .*; a PIL image or a picture file's bytes; or for a latent floats",
        ),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), "expected 1 to 67108864 pixels"),
        (np.zeros((4, 4, 3), np.float32), r"the latent has shape \(1, 4, 4, 3\), but gaussian takes \(1, 192, "),
        (np.full((4, 4), 2, np.float32), r"float32 of shape \(4, 4\) with values in 2\.\.2, expected 0\.\.1"),
    ],
)
def test_refuses_arrays(gaussian, image, message):
    with pytest.raises(PidSamplerError, match=message):
        gaussian(image)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.npy", None, r"cannot read .*no\.npy: No such file"),
        ("a.npy", b"junk", r"a\.npy is not a readable \.npy file"),
        ("a.npz", b"junk", r"is not a readable \.npz file"),
        ("a.safetensors", b"junk", r"its header would take \d+ bytes of a file of 4: it is truncated or another kind"),
        ("two.npz", {"a": np.zeros(3), "b": np.zeros(3)}, "holds a, b: name one of them 'latent'"),
        ("int.npz", {"a": np.zeros((4, 2, 2), np.int32)}, "the latent is int32"),
        ("object.npz", {"a": np.array([{}])}, r"is not a readable \.npz file"),
        ("wrong.npz", {"latent": np.zeros((16, 2, 2), np.float32)}, r"has shape \(1, 16, 2, 2\), but gaussian takes"),
    ],
)
def test_refuses_latent_files(gaussian, tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.savez(tmp_path / name, **content)
    with pytest.raises(PidSamplerError, match=message):
        gaussian(tmp_path / name)


def test_refuses_other_arguments(gaussian, no_gpu):
    with pytest.raises(PidSamplerError, match="seed=-1"):
        gaussian(RGB, seed=-1)
    partial = StepTable([Row(0.9, 0.5, b=0.5, noise={1: 0.5})])
    with pytest.raises(PidSamplerError, match=r"ends at noise level 0\.5: a picture needs one that ends in 0"):
        gaussian(RGB, partial)
    with pytest.raises(PidSamplerError, match="device 'cuda' was asked for, but"):
        Upscaler.load("tiny", device="cuda")
    with pytest.raises(PidSamplerError, match="unknown device 'gpu'"):
        Upscaler.load("tiny", device="gpu")


def test_nan_from_the_network_is_an_error_and_no_picture(known):
    with pytest.raises(PidSamplerError, match="the sampled image holds NaN or infinity"):
        known(add=math.nan)(RGB)
