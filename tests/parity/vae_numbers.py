"""Make vae.json: the latents that diffusers' encoders make of a fixed image, with narrow layers of known weights.

    pip install torch diffusers && PYTHONPATH=. python tests/parity/vae_numbers.py

Weights and image come from pidsampler's own noise (`random_encoder`, `noise.normal`), so that neither is stored. The
modules run in float64, so that the numbers are not PyTorch's rounding; what PyTorch itself loses in float32 is stored
as "float32_error", relative to the largest value. Latents are normalized as nv-tlabs/PiD does, `tokenizers/*.py`:
FLUX.2's by its own batch norm of 2x2 patches, the rest by numbers that diffusers and PiD have alike.
"""

import json
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import torch

from pidsampler import noise
from pidsampler.export.vae_keys import ENCODERS, random_encoder

SEED, SHAPE = 11, (3, 48, 32)
NARROW = {"widths": (16, 24, 32, 32), "groups": 8}
NARROW_WAN = {"widths": (8, 16, 24, 24)}
SCALES = {"sdxl": (0.13025, 0.0), "flux": (0.3611, 0.1159), "sd3": (1.5305, 0.0609)}  # scaling and shift factors


def kl(encoder):
    """Return diffusers' class for SDXL, FLUX.1, SD3 or FLUX.2 at the encoder's widths."""
    name = "AutoencoderKLFlux2" if encoder.kind == "flux2" else "AutoencoderKL"
    levels = len(encoder.widths)
    config = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": encoder.widths,
        "layers_per_block": encoder.layers,
        "latent_channels": encoder.latent,
        "norm_num_groups": encoder.groups,
        "use_quant_conv": encoder.quant_conv,
        "use_post_quant_conv": encoder.quant_conv,
    }
    return getattr(diffusers, name)(**config)


def wan(encoder):
    """Return diffusers' class for Qwen-Image at the encoder's widths."""
    base = encoder.widths[0]
    return diffusers.AutoencoderKLQwenImage(base, encoder.latent, [n // base for n in encoder.widths], encoder.layers)


def load(module, encoder):
    """Put the known weights into the module; of causal kernels into the last slice, beside slices of ones."""
    state = module.state_dict()
    weights = {}
    for name, stored in random_encoder(encoder, SEED).items():
        tensor = torch.from_numpy(stored.load())
        if state[name].ndim == 5:
            tensor = torch.cat([torch.ones(*tensor.shape[:2], state[name].shape[2] - 1, *tensor.shape[2:]),
                                tensor[:, :, None]], 2)  # fmt: skip
        weights[name] = tensor.reshape(state[name].shape)
    missing, unexpected = module.load_state_dict(weights, strict=False)
    left = [n for n in missing if not n.startswith(("decoder.", "post_quant_conv.")) and "time_conv" not in n]
    assert not unexpected
    assert left in ([], ["bn.num_batches_tracked"])


@torch.no_grad()
def encode(module, encoder, image):
    """Return the normalized latent."""
    if encoder.kind == "wan":
        mean = module.encode(image[:, :, None]).latent_dist.mean[:, :, 0]
        shift, std = (torch.tensor(getattr(module.config, f"latents_{n}"), dtype=image.dtype) for n in ("mean", "std"))
        return (mean - shift.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    mean = module.encode(image).latent_dist.mean
    if encoder.kind == "flux2":
        return module.bn(torch.nn.functional.pixel_unshuffle(mean, 2))
    scale, shift = SCALES[encoder.name]
    return (mean - shift) * scale


def run(name):
    """Return an encoder's latent of the fixed image."""
    narrow = NARROW_WAN if name == "qwenimage" else NARROW
    encoder = replace(ENCODERS[name], **narrow)
    module = (wan if encoder.kind == "wan" else kl)(encoder).eval()
    load(module, encoder)
    image = torch.from_numpy(np.clip(noise.normal(SEED, 0, SHAPE) / 2, -1, 1))[None]
    rounded = encode(module, encoder, image).double()
    latent = encode(module.double(), encoder, image.double())
    return {
        "class": type(module).__name__,
        "narrow": narrow,
        "shape": list(latent.shape),
        "latent": [float(f"{v:.9g}") for v in latent.flatten().tolist()],
        "float32_error": float(f"{(rounded - latent).abs().max() / latent.abs().max():.2g}"),
    }


def main():
    """Write vae.json beside this script."""
    data = {
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "seed": SEED,
        "image": SHAPE,
        "encoders": {name: run(name) for name in ENCODERS},
    }
    Path(__file__).with_name("vae.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
