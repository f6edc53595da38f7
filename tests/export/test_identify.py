"""Which checkpoint, and whose VAE, a file is by names, metadata, shapes and a config.json; mix-ups of equal shapes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paths import REPOSITORY
from safetensors.numpy import load_file, save_file

from pidsampler import PidSamplerError
from pidsampler.cli import main
from pidsampler.export import published, vae
from pidsampler.export.architecture import random_tensors
from pidsampler.export.identify import fitting, identify, named
from pidsampler.export.identify_vae import check_vae, vae_named
from pidsampler.export.published import PUBLISHED, get_published
from pidsampler.export.vae import ENCODERS, random_encoder

FIRST = {"flux": "2k", "flux2": "2k", "sd3": "2k", "qwenimage": "2kto4k", "sdxl": "2kto4k"}
# What others call them: Comfy-Org's repository PixelDiT, SceneWorks' pid-flux and so on.
OTHERS = {
    "pid_flux1_512_to_2048_4step_bf16": ("flux", "2k"),
    "pid_flux1_1024_to_4096_4step_bf16": ("flux", "2kto4k"),
    "pid_flux1_1024_to_4096_4step_mxfp8": ("flux", "2kto4k"),
    "pid_flux2_512_to_2048_4step_bf16": ("flux2", "2k"),
    "pid_flux2_1024_to_4096_4step_bf16": ("flux2", "2kto4k"),
    "pid_flux2_1024_to_4096_4step_2606_bf16": ("flux2", "2kto4k_2606"),
    "pid_sd3_512_to_2048_4step_bf16": ("sd3", "2k"),
    "pid_sd3_1024_to_4096_4step_bf16": ("sd3", "2kto4k"),
    "pid_sdxl_1024_to_4096_4step_bf16": ("sdxl", "2kto4k"),
    "pid_qwenimage_1024_to_4096_4step_bf16": ("qwenimage", "2kto4k"),
    "pid_1.5_flux1_1024_to_4096_4step_bf16": ("flux", "2kto4k_v1pt5"),
    "pid_1.5_flux1_1024_to_4096_4step_int8_convrot": ("flux", "2kto4k_v1pt5"),
    "pid_1.5_flux2_1024_to_4096_4step_bf16": ("flux2", "2kto4k_v1pt5"),
    "pid_1.5_qwenimage_1024_to_4096_4step_bf16": ("qwenimage", "2kto4k_v1pt5"),
    "pid_1.5_flux1_1024_to_4096_bf16": ("flux", "2kto4k_v1pt5_undistilled"),
    "pid_1.5_flux2_1024_to_4096_bf16": ("flux2", "2kto4k_v1pt5_undistilled"),
    "pid_1.5_qwenimage_1024_to_4096_bf16": ("qwenimage", "2kto4k_v1pt5_undistilled"),
    "pid_flux_2k": ("flux", "2k"),
    "pid_flux_2kto4k": ("flux", "2kto4k"),
    "pid_flux_2kto4k_v1pt5": ("flux", "2kto4k_v1pt5"),
    "pid_flux2_2k": ("flux2", "2k"),
    "pid_flux2_2kto4k": ("flux2", "2kto4k_2606"),
    "pid_flux2_2kto4k_v1pt5": ("flux2", "2kto4k_v1pt5"),
    "pid_sdxl_2kto4k": ("sdxl", "2kto4k"),
    "pid_qwenimage_2kto4k": ("qwenimage", "2kto4k"),
}


def keys(ones):
    return [(one.backbone, one.type) for one in ones]


@pytest.mark.parametrize("key", PUBLISHED)
def test_nvidias_folder_tells(key):
    one = PUBLISHED[key]
    assert keys(named(one.file)) == [key]
    assert keys(named(f"C:\\models\\{one.name}\\model_ema_bf16.pth")) == [key]
    assert keys(named(f"/pid/sd3/{one.name.upper()}.safetensors")) == [key]
    assert keys(named(one.name)) == [key]


def test_what_v1_5_replaced_lies_in_a_folder_of_its_own():
    replaced = {"flux": ["2kto4k"], "flux2": ["2kto4k", "2kto4k_2606"], "qwenimage": ["2kto4k"]}
    found = [key for key, one in PUBLISHED.items() if one.file.startswith("checkpoints_deprecated/")]
    assert found == [(backbone, kind) for backbone, kinds in replaced.items() for kind in kinds]
    assert get_published("flux2", "2kto4k_2606").file == (
        "checkpoints_deprecated/PiD_res2kto4k_sr4x_official_flux2_distill_4step_2606/model_ema_bf16.pth"
    )
    assert get_published("flux2-klein-4b", "2kto4k").drifts
    assert not get_published("flux2", "2kto4k_2606").drifts


@pytest.mark.parametrize("name", OTHERS)
def test_the_names_of_others_tell(name):
    cache = f"hub/models--SceneWorks--pid/snapshots/70b494831561dc2c181f04a7f057260b8785419a/{name}.safetensors"
    assert keys(named(f"{name}.safetensors")) == keys(named(cache)) == [OTHERS[name]]


PARTIAL = {
    "model_ema_bf16.pth": lambda one: True,
    "flux/model_ema_bf16.pth": lambda one: True,  # a folder that does not name PiD
    "flux.pth": lambda one: one.backbone == "flux",
    "z-image-turbo.pth": lambda one: one.backbone == "flux",
    "pid-flux2/model.safetensors": lambda one: one.backbone == "flux2",
    "FLUX.2-klein-4B.safetensors": lambda one: one.backbone == "flux2",
    "flux_against_sd3.pth": lambda one: True,
    "influx.pth": lambda one: True,
    "pid_v1.5.pth": lambda one: "v1pt5" in one.type,
    "teacher.pth": lambda one: one.type.endswith("undistilled"),
    "teacher_and_student.pth": lambda one: True,
    "sd3_student.pth": lambda one: one.backbone == "sd3",
    "pid-flux2/transformer/model.pth": lambda one: one.backbone == "flux2",
    "pid-flux2/a/b/model.pth": lambda one: True,
    "pid-flux2/pid_2k.pth": lambda one: (one.backbone, one.type) == ("flux2", "2k"),
    "pid-flux2/pid_sd3.pth": lambda one: False,  # a contradiction
    "pid_sr8x.pth": lambda one: one.backbone == "siglip",
    "pid_qwenimage_2k.pth": lambda one: one.backbone == "qwenimage",  # not published: the rest counts
    "step_2606.pth": lambda one: True,
    "pid_flux2_2kto4k_step_2606.pth": lambda one: one.backbone == "flux2" and one.type.startswith("2kto4k"),
    "my_pid_flux2_2kto4k_2606.pth": lambda one: one.type == "2kto4k_2606",
    "pid_flux_2_steps_2k.pth": lambda one: one.type == "2k" and one.backbone in ("flux", "flux2"),
    "flux-2-klein.pth": lambda one: one.backbone == "flux2",
}


@pytest.mark.parametrize("path", PARTIAL)
def test_a_name_that_tells_a_part(path):
    assert named(path) == tuple(filter(PARTIAL[path], PUBLISHED.values()))


# Names that nobody published tell student or teacher in clear words alone, and sizes only where these agree.
FLUX15 = ("2kto4k_v1pt5", "2kto4k_v1pt5_undistilled")
UNCLEAR = {
    **dict.fromkeys(
        [
            "pid_v1.5_flux1_1024_to_4096_bf16",
            "pid_flux_2kto4k_v1pt5_25step",
            "pid_flux_2kto4k_v1pt5_base",
            "pid_1.5_flux1_1024_to_4096_8step",
            "my_pid_1.5_flux1_1024_to_4096_bf16",
            "pid_flux_2kto4k_v1pt5_teacher_distilled",
            "pid_flux_v1.5_2kto4k_before_distill",
            "pid_flux_v1.5_2kto4k_student_of_the_teacher",
        ],
        FLUX15,
    ),
    **dict.fromkeys(
        [
            "PiD_v1pt5_res2kto4k_sr4x_official_flux_un_distilled",
            "pid_flux_v1.5_2kto4k_non-distilled",
            "pid_flux_v1.5_2kto4k_not_distilled",
            "pid_flux_v1.5_2kto4k_un-distilled",
            "pid_flux_v1.5_teacher",
            "pid-1.5-flux1-1024-to-4096-bf16",
            "PID 1.5 FLUX1 1024 to 4096 (1)",
        ],
        FLUX15[1:],
    ),
    **dict.fromkeys(
        [
            "pid_flux_v1.5_2kto4k_distilled",
            "my_pid_1.5_flux1_1024_to_4096_4steps",
            "pid_flux_v1pt5_student",
            "pid-flux-2kto4k-v1pt5",
        ],
        FLUX15[:1],
    ),
    **dict.fromkeys(
        [
            "pid_flux_v1_2k-4k_student",
            "pid_flux_2k_4k_4step",
            "pid_flux_4k_from_2k_4step",
            "pid_flux_2kto4k_to_2k_4step",
            "pid_flux_1024_4096_512_to_2048_4step",
        ],
        ("2k", "2kto4k", "2kto4k_v1pt5"),
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_name_that_nobody_published_tells_what_it_says(name):
    for path in (f"{name}.pth", f"{name.upper()}.safetensors", f"pid-flux/{name}/model.pth"):
        assert {one.backbone for one in named(path)} == {"flux"}
        assert {one.type for one in named(path)} == set(UNCLEAR[name])


@pytest.mark.parametrize("name", ["my_pid_flux2_2kto4k", "pid_flux2_2kto4k_old", "flux.2_1024_to_4096"])
def test_only_the_published_name_leaves_out_its_date(name):
    found = {("flux2", "2kto4k"), ("flux2", "2kto4k_2606")}
    assert set(keys(named(f"{name}.pth"))) & found == found
    for same in ("pid_flux2_2kto4k", "pid-flux2-2kto4k", "PID FLUX2 2Kto4K", "pid_flux2_2kto4k (1)"):
        assert keys(named(f"{same}.safetensors")) == [("flux2", "2kto4k_2606")]


@pytest.mark.parametrize("kind", FLUX15)
def test_what_a_name_leaves_open_is_said(kind):
    tensors = tensors_of(("flux", kind))
    with pytest.raises(PidSamplerError, match="may be flux 2kto4k_v1pt5 or flux 2kto4k_v1pt5_undistilled"):
        identify("pid_v1.5_flux1_1024_to_4096_bf16.safetensors", tensors)
    assert "could be flux" in identify("pid_flux_2kto4k_v1pt5_base.pth", tensors, kind=kind).assumption


CONTRADICTIONS = [
    "PiD_res2k_sr4x_official_sd3_distill_4step/pid_flux_2k.safetensors",
    "PiD_res2k_sr4x_official_flux_distill_4step/sd3_2k.safetensors",
    "PiD_res2k_sr4x_official_flux_distill_4step/sd3_model.pth",
    "pid_sd3_2k/pid_flux_2k/model.pth",
    "models--x--pid-sd3/snapshots/0/pid_flux_2k.pth",
]


@pytest.mark.parametrize("path", CONTRADICTIONS)
@pytest.mark.parametrize("options", [{}, {"backbone": "sd3", "kind": "2k"}, {"backbone": "flux", "kind": "2k"}])
def test_names_that_contradict_each_other_are_refused(path, options):
    with pytest.raises(PidSamplerError, match=r"is .* by the name .*, but .* by the name .*: rename what is wrong, or"):
        identify(path, tensors_of(("flux", "2k")), **options)
    assert named(path) == ()


@given(st.text(min_size=1))
@example("\0/\\..pid_1.5_")
@example("2606" * 1000)
def test_any_text_is_a_path(text):
    found = named(text)
    assert set(found) <= set(PUBLISHED.values())
    assert named(text.replace("/", "\\")) == found
    assert vae_named(text) in {None, "Stable Diffusion 1 or 2", *ENCODERS}


@given(st.text(), st.sampled_from(list(PUBLISHED)))
def test_no_folder_makes_another_of_a_whole_name(text, key):
    assert keys(named(f"{text}/{PUBLISHED[key].name}/model_ema_bf16.pth")) == [key]


@pytest.mark.parametrize("call", [named, vae_named, lambda junk: identify(junk, {}), lambda junk: fitting(junk)])
@pytest.mark.parametrize("junk", [None, 3, b"x", ["x"]])
def test_junk_is_refused(call, junk):
    with pytest.raises(PidSamplerError, match="must be"):
        call(junk)


def tensors_of(key):
    return random_tensors(PUBLISHED[key].architecture, 0)


EQUAL = [  # of equal shapes
    [(name, kind) for name, kind in PUBLISHED if "v1pt5" not in kind and name in ("flux", "sd3", "qwenimage")],
    [(name, kind) for name, kind in PUBLISHED if "v1pt5" not in kind and name == "flux2"],
    [(name, kind) for name, kind in PUBLISHED if "v1pt5" in kind and name != "flux2"],
    [(name, kind) for name, kind in PUBLISHED if "v1pt5" in kind and name == "flux2"],
    *([key] for key in [("dinov2", "2k"), ("siglip", "2k"), ("sdxl", "2kto4k")]),
]


def test_shapes_tell_a_part():
    assert sorted(key for ones in EQUAL for key in ones) == sorted(PUBLISHED)
    for ones in EQUAL:
        for key in ones:
            assert sorted(keys(fitting(tensors_of(key)))) == sorted(ones)
    assert fitting({}) == ()


def test_what_the_file_leaves_open_the_options_decide():
    tensors = tensors_of(("flux", "2k"))
    found = identify("m.pth", tensors, backbone="sd3", kind="2k")
    assert keys([found.published]) == [("sd3", "2k")]
    assert sorted(keys(found.others)) == sorted(key for key in EQUAL[0] if key != ("sd3", "2k"))
    assert found.assumption.startswith("taken for sd3 2k as the options say: the file could be flux 2k, ")
    assert identify("pid_flux_2k.pth", tensors).assumption is None
    assert keys([identify("pid_flux.pth", tensors, kind="2k").published]) == [("flux", "2k")]
    assert keys([identify("pid_2k.pth", tensors, backbone="zimage").published]) == [("flux", "2k")]
    assert keys([identify("m.pth", tensors_of(("sdxl", "2kto4k"))).published]) == [("sdxl", "2kto4k")]
    assert keys([identify("pid_sd3_2k.pth", {}).published]) == [("sd3", "2k")]  # check_tensors says what is wrong


REFUSED = {
    "nothing tells": ("m.pth", {}, "m.pth may be flux 2k, sd3 2k, sd3 2kto4k, flux 2kto4k or qwenimage 2kto4k by the "
                      "shapes of its tensors: pass backbone='flux', or another of these, and pass kind='2k', or"),
    "a part tells": ("pid_flux.pth", {}, "may be flux 2k or flux 2kto4k by the name 'pid_flux.pth', by the shapes of "
                     "its tensors: pass kind='2k', or another of these"),
    "another backbone": ("pid_flux_2k.pth", {"backbone": "sd3", "kind": "2k"}, "is flux 2k by the name "
                         "'pid_flux_2k.pth', not sd3 2k: pass backbone='flux', and pass kind='2k', or if the name is "
                         "wrong, rename it, or give a link to it with another name"),
    "a backbone alone": ("pid_flux_2k.pth", {"backbone": "qwenimage"}, "not qwenimage 2kto4k, qwenimage 2kto4k_v1pt5"),
    "another type": ("PiD_res2k_sr4x_official_flux_distill_4step/m.pth", {"backbone": "flux", "kind": "2kto4k"},
                     "is flux 2k by the name 'pid_res2k_sr4x_official_flux_distill_4step', not flux 2kto4k"),
    "two names": ("pid-flux/pid_2k.pth", {"backbone": "sd3"}, "by the name 'pid_2k.pth' and 'pid-flux', not sd3 2k"),
    "v1 as v1.5": ("m.pth", {"backbone": "flux", "kind": "2kto4k_v1pt5"}, "has the shapes of flux 2k, sd3 2k, sd3 "
                   "2kto4k, flux 2kto4k or qwenimage 2kto4k, not of flux 2kto4k_v1pt5: pass backbone='flux'"),
    "a wrong name": ("pid_1.5_flux2_1024_to_4096_4step.pth", {}, "is flux2 2kto4k_v1pt5 by the name "
                     "'pid_1.5_flux2_1024_to_4096_4step.pth', but its tensors have the shapes of flux 2k, "),
    "no such backbone": ("m.pth", {"backbone": "flx"}, "unknown backbone 'flx': did you mean 'flux'"),
    "no such type": ("m.pth", {"kind": "4k"}, "unknown type '4k'"),
    "not published": ("m.pth", {"backbone": "flux", "kind": "2kto4k_2606"}, "flux was not published as 2kto4k_2606"),
    "no text": ("m.pth", {"backbone": ["flux"]}, "must be a text"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_or_stays_open_is_refused(name):
    path, options, message = REFUSED[name]
    with pytest.raises(PidSamplerError) as caught:
        identify(path, tensors_of(("flux", "2k")), **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("order", [1, -1])
def test_a_student_is_no_teacher(order):
    one, other = ("2kto4k_v1pt5", "2kto4k_v1pt5_undistilled")[::order]
    for name in [get_published("flux", one).name, *(name for name, key in OTHERS.items() if key == ("flux", one))]:
        with pytest.raises(PidSamplerError, match=f"is flux {one} by the name .*, not flux {other}: pass"):
            identify(f"{name}.pth", tensors_of(("flux", one)), backbone="flux", kind=other)


def test_shapes_that_nobody_has_are_said():
    with pytest.raises(PidSamplerError, match=r"siglip 2k.* and its tensors have the shapes of none: pass backbone="):
        identify("m.pth", {})


def with_metadata(path, **metadata):
    save_file({"x": np.zeros(1, np.float32)}, path, metadata)
    return path


def test_metadata_tell(tmp_path):
    tensors = tensors_of(("flux", "2k"))
    path = with_metadata(tmp_path / "m.safetensors", **{"modelspec.title": "PiD Flux 2k", "format": "pt"})
    assert keys([identify(path, tensors).published]) == [("flux", "2k")]
    with pytest.raises(PidSamplerError, match="is flux 2k by the metadata 'pid flux 2k', not sd3 2k"):
        identify(path, tensors, backbone="sd3")
    path = with_metadata(tmp_path / "pid_sd3_2k.safetensors", title="PiD Flux 2k")
    with pytest.raises(PidSamplerError, match=r"is sd3 2k by the name .*, but flux 2k by the metadata .*: rename it"):
        identify(path, tensors, backbone="sd3")


def test_the_metadata_of_shards_tell(tmp_path):
    title = {"modelspec.title": "PiD_res2k_sr4x_official_flux_distill_4step"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    for part in "ab":
        with_metadata(tmp_path / f"{part}.safetensors", **(title if part == "b" else {}))
    tensors = tensors_of(("flux", "2k"))
    assert keys([identify(index, tensors).published]) == [("flux", "2k")]
    with pytest.raises(PidSamplerError, match=r"is flux 2k by the metadata .*, not sd3 2k: .* save it without them"):
        identify(index, tensors, backbone="sd3", kind="2k")
    with_metadata(tmp_path / "a.safetensors", title="pid_sd3_2k")
    with pytest.raises(
        PidSamplerError, match=r"is sd3 2k by the metadata .*, but flux 2k .*: save it without its meta"
    ):
        identify(index, tensors)


@settings(max_examples=20)
@given(st.binary(max_size=40))
def test_a_header_of_any_bytes_tells_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "m.safetensors"
    for header in (data, json.dumps({"__metadata__": [1]}).encode(), b'{"__metadata__": {"title": 3}}', b"[" * 9000):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert len(named(path)) == len(PUBLISHED)
        with pytest.raises(PidSamplerError, match="may be"):
            identify(path, {})


# Whose VAE


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        *((file, name) for name, file in published.VAE_FILES.items()),
        ("ComfyUI/models/vae/qwen_image_vae.safetensors", "qwenimage"),
        ("vae/flux2-vae.safetensors", "flux2"),
        ("sdxl-vae-fp16-fix/sdxl.vae.safetensors", "sdxl"),
        ("stable-diffusion-xl-base-1.0/vae/diffusion_pytorch_model.fp16.safetensors", "sdxl"),
        ("sd_xl_base_1.0.safetensors", "sdxl"),
        ("hub/models--stabilityai--stable-diffusion-3-medium/snapshots/b1/vae.safetensors", "sd3"),
        ("z_image_turbo/vae/diffusion_pytorch_model.safetensors", "flux"),
        ("stable-diffusion-v1-5/vae/diffusion_pytorch_model.bin", "Stable Diffusion 1 or 2"),
        ("v1-5-pruned-emaonly.safetensors", "Stable Diffusion 1 or 2"),
        ("vae-ft-mse-840000-ema-pruned.safetensors", "Stable Diffusion 1 or 2"),
        ("sd15_vae.safetensors", "Stable Diffusion 1 or 2"),
        ("sd2.1-vae.safetensors", "Stable Diffusion 1 or 2"),
        ("my_vae_v1.5.safetensors", None),
        ("flux/vae.safetensors", "flux"),
        ("stable-diffusion-v1-5/vae.safetensors", "Stable Diffusion 1 or 2"),
        ("stable-diffusion-v1-5/sdxl_decoder.safetensors", "sdxl"),  # the folder names no VAE
        ("sd15_vae/sdxl_vae.safetensors", None),
        ("sd1-vae-sdxl.safetensors", None),
        ("sd1.5 fine-tuned for SDXL users/vae/diffusion_pytorch_model.safetensors", None),
        ("ae (1).safetensors", "flux"),
        ("my_ae.safetensors", None),
        ("release/v1-0/vae.safetensors", None),
        ("flux_or_sd3_vae.safetensors", None),
        ("vae.safetensors", None),
    ],
)
def test_whose_vae_a_path_says(path, whose):
    assert vae_named(path) == whose


@pytest.mark.parametrize("name", ENCODERS)
def test_a_vae_by_its_name(name, tmp_path):
    for whose, file in published.VAE_FILES.items():
        if whose == name:
            assert check_vae(file, ENCODERS[name]) is None
        else:
            with pytest.raises(PidSamplerError, match=f"is the VAE of {whose}, not of {name}, by the name .*; pass"):
                check_vae(file, ENCODERS[name])
    alike = {"sdxl": "Stable Diffusion 1 or 2", "flux": "sd3", "sd3": "flux"}.get(name)
    said = alike and f"the VAE is taken for that of {name}: that of {alike} has the same shapes"
    assert check_vae(tmp_path / "files" / "vae.safetensors", ENCODERS[name]) == said


# As diffusers writes them; the first ones of Stable Diffusion 1 had no scaling_factor.
KL, SD1 = {"_class_name": "AutoencoderKL", "latent_channels": 4}, {"scaling_factor": 0.18215, "shift_factor": None}
WAN = {"_class_name": "AutoencoderKLQwenImage", "z_dim": 16}
WAN |= {
    "latents_mean": list(ENCODERS["qwenimage"].shift),
    "latents_std": [round(1 / scale, 4) for scale in ENCODERS["qwenimage"].scale],
}
CONFIGS = {
    "sdxl": {**KL, "scaling_factor": 0.13025, "latents_mean": None},
    "flux": {**KL, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    "sd3": {**KL, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    "flux2": {"_class_name": "AutoencoderKLFlux2", "latent_channels": 32},
    "qwenimage": WAN,
    "Stable Diffusion 1": {**KL, **SD1},
    "the first Stable Diffusion": KL,
    "Playground": {**KL, "scaling_factor": 0.13025, "latents_mean": [0.1, 0.2, 0.3, 0.4]},
    "Wan 2.2": {**WAN, "_class_name": "AutoencoderKLWan", "z_dim": 48},
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_beside_it_decides(name, config, tmp_path):
    folder = tmp_path / "sd3" / "vae"  # whatever names say
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[config]))
    for path in (folder / "diffusion_pytorch_model.safetensors", folder):
        if config == name:
            assert check_vae(path, ENCODERS[name]) is None
        else:
            with pytest.raises(PidSamplerError, match=rf"config.json beside .* for {name}: .*pass the VAE of {name}"):
                check_vae(path, ENCODERS[name])


def test_the_factor_is_said(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["the first Stable Diffusion"]))
    with pytest.raises(PidSamplerError, match=r"has scaling_factor 0\.18215, expected 0\.13025 for sdxl"):
        check_vae(tmp_path / "diffusion_pytorch_model.safetensors", ENCODERS["sdxl"])


@pytest.mark.parametrize("file", ["vae.safetensors", "diffusion_pytorch_model.fp16.safetensors", "model.bin"])
@pytest.mark.parametrize("given", [{"_class_name": "AutoencoderKL"}, {}])
def test_a_config_counts_beside_a_file_of_any_name(file, given, tmp_path):
    sizes = {"sdxl": (4, 0.18215, 0.0), "flux": (16, 1.5305, 0.0609)}
    for name, (channels, scale, shift) in sizes.items():
        config = {**given, "latent_channels": channels, "scaling_factor": scale, "shift_factor": shift}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(PidSamplerError, match=f"has scaling_factor {scale}, .*, or if it is of another file, move"):
            check_vae(tmp_path / file, ENCODERS[name])
        (tmp_path / "config.json").write_text(json.dumps({**CONFIGS[name], **given}))
        assert check_vae(tmp_path / file, ENCODERS[name]) is None


def test_a_config_does_not_hide_what_the_file_says(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["sdxl"]))
    with pytest.raises(PidSamplerError, match="is the VAE of Stable Diffusion 1 or 2, not of sdxl, by the name"):
        check_vae(tmp_path / "vae-ft-mse-840000.safetensors", ENCODERS["sdxl"])
    with pytest.raises(PidSamplerError, match=r"by its metadata; pass the VAE of sdxl, or save it without"):
        check_vae(with_metadata(tmp_path / "vae.safetensors", title="stable diffusion v1"), ENCODERS["sdxl"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_a_pipe_tells_nothing(name, tmp_path):
    os.mkfifo(tmp_path / name)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    assert "the VAE is taken for that of sdxl" in check_vae(path, ENCODERS["sdxl"])
    assert keys([identify(path, tensors_of(("sdxl", "2kto4k"))).published]) == [("sdxl", "2kto4k")]


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", '{"_class_name": "UNet2DModel"}', "\0", "[" * 9000])
def test_a_config_of_something_else_tells_nothing(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert check_vae(tmp_path / "diffusion_pytorch_model.safetensors", ENCODERS["flux2"]) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_a_config_of_numbers_that_json_has_not_tells_nothing(value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["flux"], "scaling_factor": value}))
    said = check_vae(tmp_path / "diffusion_pytorch_model.safetensors", ENCODERS["flux"])
    assert said == "the VAE is taken for that of flux: that of sd3 has the same shapes"


@pytest.mark.parametrize("value", [None, "x", True, [1], {}, 10**18])
def test_a_config_with_junk_in_it(value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["flux"], "scaling_factor": value}))
    with pytest.raises(PidSamplerError, match="has scaling_factor"):
        check_vae(tmp_path / "diffusion_pytorch_model.safetensors", ENCODERS["flux"])


def test_a_vaes_metadata_tell(tmp_path):
    path = with_metadata(tmp_path / "vae.safetensors", **{"modelspec.architecture": "stable-diffusion-v1/vae"})
    with pytest.raises(PidSamplerError, match="is the VAE of Stable Diffusion 1 or 2, not of sdxl, by its metadata"):
        check_vae(path, ENCODERS["sdxl"])
    path = with_metadata(tmp_path / "vae.safetensors", **{"modelspec.architecture": "stable-diffusion-xl-v1-base/vae"})
    assert check_vae(path, ENCODERS["sdxl"]) is None


# The command


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch, capsys):
    """Export, the published networks and encoders being small ones."""
    monkeypatch.chdir(tmp_path)
    for key, one in PUBLISHED.items():
        sizes = {"depth": 1, "pixel_depth": 1, "residuals": 1, "text_width": 8, "text_length": 4}
        small = replace(one.architecture.reduced(), **sizes)
        monkeypatch.setitem(published.PUBLISHED, key, replace(one, architecture=small))
    for name, encoder in ENCODERS.items():
        monkeypatch.setitem(vae.ENCODERS, name, encoder.reduced())

    def run(*arguments):
        code = main(["export", *map(str, arguments), "-o", "m", "--overwrite", "--whole"])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def checkpoint(key, path="c.safetensors"):
    save_file({name: one.load() for name, one in random_tensors(PUBLISHED[key].architecture, 0).items()}, path)


def manifest():
    return json.loads(Path("m/pidsampler.json").read_text())


@pytest.mark.parametrize("keys_", EQUAL, ids=lambda keys_: "-".join(keys_[0]))
def test_each_published_name_exports_without_options(run, keys_):
    checkpoint(keys_[0])
    for key in keys_:
        one = PUBLISHED[key]
        Path(one.file).parent.mkdir(parents=True, exist_ok=True)
        others = [f"{name}.safetensors" for name, other in OTHERS.items() if other == key]
        for path in (one.file.replace(".pth", ".safetensors"), *others[:1]):
            os.link("c.safetensors", path)
            assert run("--checkpoint", path)[::2] == (0, "")
            assert manifest()["name"] == one.name
            assert manifest()["description"] == one.description


def test_what_was_chosen_is_in_the_manifest_too(run):
    checkpoint(("sd3", "2k"))
    name, arrays = "pid_sd3_2k.safetensors", load_file("c.safetensors")
    save_file({prefix + key: array for prefix in ("ema.", "net.") for key, array in arrays.items()}, name)
    code, _, err = run("--checkpoint", name)
    line = f"{name}: it holds the model more than once: ema. is taken, the average of training; not net."
    assert (code, err) == (0, f"pidsampler: {line}\n")
    assert manifest()["description"] == f"{PUBLISHED['sd3', '2k'].description}; {line}"
    assert run("--checkpoint", name, "--quiet") == (0, "", "")
    assert manifest()["description"].endswith(line)


def test_what_was_assumed_is_said(run):
    checkpoint(("flux", "2k"))
    asked = ("--checkpoint", "c.safetensors", "--backbone", "sd3", "--type", "2k")
    code, out, err = run(*asked)
    line = "taken for sd3 2k as the options say: the file could be flux 2k, sd3 2kto4k, flux 2kto4k or qwenimage 2kto4k"
    line += " too"
    assert (code, err) == (0, f"pidsampler: assumed: {line}\n")
    assert "assumed" not in out
    assert manifest()["description"] == f"{PUBLISHED['sd3', '2k'].description}; {line}"
    assert run(*asked, "--quiet") == (0, "", "")
    encoder = random_encoder(ENCODERS["sd3"], 0)
    save_file({name: one.load() for name, one in encoder.items()}, "vae.safetensors")
    os.link("c.safetensors", "pid_sd3_2k.safetensors")
    line = "the VAE is taken for that of sd3: that of flux has the same shapes"
    code, _, err = run("--checkpoint", "pid_sd3_2k.safetensors", "--vae", "vae.safetensors")
    assert (code, err) == (0, f"pidsampler: assumed: {line}\n")
    assert manifest()["description"] == f"{PUBLISHED['sd3', '2k'].description}; {line}"
    os.link("vae.safetensors", "ae.safetensors")
    code, _, err = run("--checkpoint", "pid_sd3_2k.safetensors", "--vae", "ae.safetensors")
    assert (code, err.count("\n")) == (1, 1)
    assert "ae.safetensors is the VAE of flux, not of sd3, by the name 'ae.safetensors'; pass the VAE of sd3, or" in err


def test_refusals_name_the_options(run):
    checkpoint(("flux", "2k"), "pid_flux_2k.safetensors")
    code, _, err = run("--checkpoint", "pid_flux_2k.safetensors", "--backbone", "qwenimage", "--type", "2kto4k")
    assert code == 1
    assert "not qwenimage 2kto4k: pass --backbone flux, and pass --type 2k, or if the name is wrong, rename it" in err
    for source in (("--random-weights", 1), ("--from-hub", "--accept-licence")):
        code, _, err = run(*source, "--backbone", "flux")
        assert code == 1
        assert "pass --backbone and --type: only a checkpoint that is given can tell them" in err
    assert not Path("m").exists()


def test_the_documented_table_is_true():
    lines = (REPOSITORY / "docs/checkpoints.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `PiD_")]
    assert len(rows) == len(PUBLISHED)
    for name, backbone, kind, scale, latent, others in rows:
        one = PUBLISHED[backbone, kind]
        assert name == f"`{one.name}`{' †' * one.file.startswith('checkpoints_deprecated')}"
        sizes = one.architecture
        assert (scale, latent) == (str(sizes.scale), f"{sizes.latent_channels}, 1/{sizes.latent_factor}")
        main = {name for name in OTHERS if not name.endswith(("mxfp8", "convrot"))}
        assert set(one.names) == {one.name, *(n.removesuffix("_bf16") for n in main if OTHERS[n] == (backbone, kind))}
        assert set(others.replace("`", "").split()) - {"-"} == {
            other for other in main if OTHERS[other] == (backbone, kind)
        }
