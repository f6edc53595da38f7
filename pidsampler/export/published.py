"""The checkpoints that NVIDIA has published, and what each needs.

Source: nv-tlabs/PiD, `docs/checkpoints.md`, `inference/checkpoint_registry.py`, `configs/pid` and
`configs/common/defaults/net.py`; for those that v1.5 replaced the same files before its commit da8977e, and
`docs/FLUX2_2kto4k_new_ckpt_compare.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import moved, timesteps
from ..errors import ConfigError, unknown_name
from ..onnx.manifest import OwnTimes, TeacherRule
from .architecture import Architecture

REPOSITORY = "nvidia/PiD"
LICENSE = "NVIDIA Source Code License v1 (non-commercial), of the checkpoint nvidia/PiD"
TYPES = ("2k", "2kto4k", "2kto4k_v1pt5", "2kto4k_v1pt5_undistilled", "2kto4k_2606")
ALIASES = {
    "zimage": "flux",
    "zimage-turbo": "flux",
    "flux2-klein-4b": "flux2",
    "flux2-klein-9b": "flux2",
    "qwenimage-2512": "qwenimage",
}
VAE_FILES = {
    "flux": "checkpoints/ae.safetensors",
    "sd3": "checkpoints/sd3_vae/vae/diffusion_pytorch_model.safetensors",
    "flux2": "checkpoints/flux2_ae.safetensors",
    "sdxl": "checkpoints/sdxl_vae.safetensors",
    "qwenimage": "checkpoints/QwenImage_VAE_2d.pth",
}
_SCENEWORKS = (  # what its `image_jobs/pid.rs` takes
    *(("flux", "2k"), ("flux", "2kto4k"), ("flux", "2kto4k_v1pt5")),
    *(("flux2", "2k"), ("flux2", "2kto4k_2606"), ("flux2", "2kto4k_v1pt5")),
    *(("sdxl", "2kto4k"), ("qwenimage", "2kto4k")),
)
# The teachers' dynamic_shift, and the steps, guidance and solver of docs/inference.md and `pid_model.py`.
_TEACHER_RULE = TeacherRule(base=6.0, size=2048, steps=25)
_TEACHER_SAMPLER, _TEACHER_GUIDANCE = "dpmpp-2m", 5.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published checkpoint.

    Args:
        backbone: Backbone whose latents it decodes; no alias.
        type: One of `TYPES`.
        architecture: Sizes of its network.
        encoder: Name in `vae.ENCODERS`, or None where the backbone's encoder is no convolutional VAE.
    """

    backbone: str
    type: str
    architecture: Architecture
    encoder: str | None

    @property
    def name(self) -> str:
        """NVIDIA's own name of it."""
        distilled = not self.type.endswith("_undistilled")
        version = "v1pt5_" if "v1pt5" in self.type else ""
        resolution, scale = self.type.split("_")[0], self.architecture.scale
        end = "distill_4step" if distilled else "undistilled"
        end += "_2606" if self.type.endswith("_2606") else ""
        return f"PiD_{version}res{resolution}_sr{scale}x_official_{self.backbone}_{end}"

    @property
    def names(self) -> tuple[str, ...]:
        """All names of it on disk, without endings: NVIDIA's, Comfy-Org's and SceneWorks' (docs/checkpoints.md)."""
        found = [self.name]
        resolution, june = self.type.split("_")[0], self.type.endswith("_2606")
        if self.encoder is not None:
            version, ends = "1.5_" * ("v1pt5" in self.type), "_4step" * (not self.is_teacher) + "_2606" * june
            sizes = {"2k": "512_to_2048", "2kto4k": "1024_to_4096"}[resolution]
            found.append(f"pid_{version}{self.backbone}{'1' * (self.backbone == 'flux')}_{sizes}{ends}")
        if (self.backbone, self.type) in _SCENEWORKS:
            found.append(f"pid_{self.backbone}_{self.type.removesuffix('_2606')}")
        return tuple(found)

    @property
    def file(self) -> str:
        """Its path in the repository `REPOSITORY`; what v1.5 replaced lies in a folder of its own."""
        replaced = (self.backbone, "2kto4k_v1pt5") in PUBLISHED and self.type in ("2kto4k", "2kto4k_2606")
        return f"checkpoints{'_deprecated' * replaced}/{self.name}/model_ema_bf16.pth"

    @property
    def noise_frame(self) -> str:
        """How a latent of its backbone holds noise: variance-preserving for SDXL alone."""
        return "vp" if self.backbone == "sdxl" else "flow"

    @property
    def drifts(self) -> bool:
        """Whether its colors are known to: those of the v1 students of SDXL and SD3 go green or pink, and lighter.

        So do those of FLUX.2's first one for 2k to 4k, which "2kto4k_2606" repaired.
        """
        drifting = self.backbone in ("sdxl", "sd3") or (self.backbone, self.type) == ("flux2", "2kto4k")
        return drifting and "v1pt5" not in self.type

    @property
    def is_teacher(self) -> bool:
        """Whether it is undistilled."""
        return self.type.endswith("_undistilled")

    @property
    def timesteps(self) -> OwnTimes:
        """What it was made for: PiD's four steps, or a teacher's rule."""
        return _TEACHER_RULE if self.is_teacher else tuple(timesteps.pid().tolist())

    @property
    def sampler(self) -> str | None:
        """Solver that a teacher is run by; None for a student, whose is the default."""
        return _TEACHER_SAMPLER if self.is_teacher else None

    @property
    def guidance(self) -> float | None:
        """Guidance scale on the text that a teacher is run with; None for a student."""
        return _TEACHER_GUIDANCE if self.is_teacher else None

    @property
    def description(self) -> str:
        """One line for the manifest."""
        if self.is_teacher:
            return f"{self.name}: a teacher of {_TEACHER_RULE.steps} steps, made for guidance {_TEACHER_GUIDANCE:g}"
        return f"{self.name}: a student of 4 steps"


_V1 = Architecture()
_V15 = replace(
    _V1, rope_side=2048, projection=1024, replicate=True, gate_per_channel=False, pixel_injection=True
)  # fmt: skip
_V15_FLUX2 = replace(_V15, latent_channels=128, latent_factor=16, unpatchify=2)
_V1_TOKENS = {  # latents at a sixteenth of the picture
    "flux2": replace(_V1, latent_channels=128, latent_factor=16),
    "dinov2": replace(_V1, latent_channels=768, latent_factor=16),
    "siglip": replace(_V1, latent_channels=1152, latent_factor=16, scale=8),
}
_TEACHER = TYPES[3]
PUBLISHED = {
    (backbone, kind): Published(backbone=backbone, type=kind, architecture=architecture, encoder=encoder)
    for backbone, kind, architecture, encoder in (
        ("flux", "2k", _V1, "flux"),
        ("flux2", "2k", _V1_TOKENS["flux2"], "flux2"),
        ("sd3", "2k", _V1, "sd3"),
        ("dinov2", "2k", _V1_TOKENS["dinov2"], None),
        ("siglip", "2k", _V1_TOKENS["siglip"], None),
        ("sd3", "2kto4k", _V1, "sd3"),
        ("sdxl", "2kto4k", replace(_V1, latent_channels=4), "sdxl"),
        ("flux", "2kto4k", _V1, "flux"),
        ("flux2", "2kto4k", _V1_TOKENS["flux2"], "flux2"),
        ("flux2", "2kto4k_2606", _V1_TOKENS["flux2"], "flux2"),
        ("qwenimage", "2kto4k", _V1, "qwenimage"),
        *(("flux", kind, _V15, "flux") for kind in ("2kto4k_v1pt5", _TEACHER)),
        *(("flux2", kind, _V15_FLUX2, "flux2") for kind in ("2kto4k_v1pt5", _TEACHER)),
        *(("qwenimage", kind, _V15, "qwenimage") for kind in ("2kto4k_v1pt5", _TEACHER)),
    )
}


def own_backbone(name: str) -> str:
    """Return the backbone that a name or an alias means.

    Raises:
        PidSamplerError: There is no such backbone.
    """
    backbones = dict.fromkeys(backbone for backbone, _ in PUBLISHED)
    if name not in backbones and name not in ALIASES:
        raise unknown_name("backbone", name, known=[*backbones, *ALIASES])
    return ALIASES.get(name, name)


def get_published(backbone: str, kind: str) -> Published:
    """Return a published checkpoint.

    Args:
        backbone: Name, such as "sdxl", or an alias such as "zimage".
        kind: One of `TYPES`.

    Raises:
        PidSamplerError: There is no such backbone, or it was not published in that type.
    """
    own = own_backbone(backbone)
    if kind not in TYPES:
        raise unknown_name("type", kind, known=TYPES)
    if (own, kind) not in PUBLISHED:
        known = [known for name, known in PUBLISHED if name == own]
        raise ConfigError(f"{backbone} was not published as {kind}: pass one of {', '.join(known)}")
    return PUBLISHED[own, kind]


__getattr__ = moved.names(__name__)
