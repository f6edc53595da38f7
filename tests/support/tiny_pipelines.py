"""Pipelines of diffusers with random networks of a few thousand weights: no file, no text encoder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffusers
import torch

torch.set_num_threads(1)  # of work so small several threads wait for each other


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Tiny(NamedTuple):
    """A pipeline, and what a call of it is given."""

    pipe: Any
    inputs: dict[str, Any]

    def run(self, scheduler: Any, **options: Any) -> torch.Tensor:
        """The latents of a run with another scheduler."""
        self.pipe.scheduler = scheduler
        given = {"num_inference_steps": 5, "height": 32, "width": 32, **self.inputs, **options}
        generator = torch.Generator().manual_seed(0)
        return self.pipe(**given, output_type="latent", generator=generator).images


def make(name: str) -> Tiny:
    """Build the pipeline of a name in `PIPELINES`."""
    torch.manual_seed(0)
    tiny = PIPELINES[name]()
    tiny.pipe.set_progress_bar_config(disable=True)
    return tiny


def _flux(pipeline: str = "FluxPipeline") -> Tiny:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), latent_channels=1, norm_num_groups=1, shift_factor=0.1)
    pipe = getattr(diffusers, pipeline)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=vae,
        transformer=transformer, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    return Tiny(pipe, {"prompt_embeds": rand(1, 8, 32), "pooled_prompt_embeds": rand(1, 32)})


def _flux_of_an_image() -> Tiny:
    pipe, prompt = _flux("FluxImg2ImgPipeline")
    return Tiny(pipe, {**prompt, "image": rand(1, 3, 32, 32).clamp(-1, 1), "strength": 0.6})


def _sd3() -> Tiny:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=64,
    )  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=None,
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    prompts = {f"{sign}prompt_embeds": rand(1, 8, 32, seed=k) for k, sign in enumerate(("", "negative_"))}
    pooled = {f"{sign}pooled_prompt_embeds": rand(1, 64, seed=k) for k, sign in enumerate(("", "negative_"))}
    return Tiny(pipe, {**prompts, **pooled})


def _qwen_image() -> Tiny:
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, use_dynamic_shifting=True, shift_terminal=0.02
    )  # as the model's own
    pipe = diffusers.QwenImagePipeline(
        scheduler=scheduler, vae=None, text_encoder=None, tokenizer=None, transformer=transformer
    )
    mask = torch.ones(1, 8, dtype=torch.int64)
    return Tiny(pipe, {"prompt_embeds": rand(1, 8, 16), "prompt_embeds_mask": mask})


def _z_image() -> Tiny:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    pipe = diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=None, text_encoder=None, tokenizer=None,
        transformer=transformer,
    )  # fmt: skip
    with torch.no_grad():  # which they leave empty
        transformer.x_pad_token.copy_(rand(1, 32))
        transformer.cap_pad_token.copy_(rand(1, 32))
    return Tiny(pipe, {"prompt_embeds": [rand(8, 16)], "negative_prompt_embeds": [rand(8, 16, seed=2)]})


PIPELINES: dict[str, Callable[[], Tiny]] = {
    "FLUX": _flux,
    "SD3": _sd3,
    "Qwen-Image": _qwen_image,
    "Z-Image": _z_image,
    "FLUX of an image": _flux_of_an_image,
}
