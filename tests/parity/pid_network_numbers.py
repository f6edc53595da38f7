"""Store what PiD's public PyTorch network gives for random weights, in tests/parity/pid_network.npz.

    git clone https://github.com/nv-tlabs/PiD && pip install torch pidsampler
    python tests/parity/pid_network_numbers.py PiD

The weights are those of `random_tensors`, which the tests make again; of each velocity every 7th value is stored.
"""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from pid_cases import CASES, given

from pidsampler.export.architecture import Architecture, random_tensors


def network_class(checkout: Path) -> type:
    """Import PidNet without what it needs for training on many machines."""
    log = types.ModuleType("pid._ext.imaginaire.utils.log")
    log.info = lambda *_: None
    utils = types.ModuleType("pid._ext.imaginaire.utils")
    utils.log = log
    parallel = types.ModuleType("pid._src.utils.context_parallel")
    parallel.cat_outputs_cp_with_grad = parallel.split_inputs_cp = None
    sys.modules |= {module.__name__: module for module in (log, utils, parallel)}
    sys.path.insert(0, str(checkout))
    from pid._src.networks.pid_net import PidNet

    return PidNet


def network(checkout: Path, a: Architecture) -> Any:
    """Make PidNet in a form, with the weights that PyTorch begins with."""
    return network_class(checkout)(
        num_groups=a.heads, hidden_size=a.hidden, pixel_hidden_size=a.pixel_hidden, patch_depth=a.depth,
        pixel_attn_hidden_size=a.pixel_attention, pixel_num_groups=a.pixel_heads, pixel_depth=a.pixel_depth,
        patch_size=a.patch, txt_embed_dim=a.text_width, txt_max_length=a.text_length,
        rope_mode={"ntk": "ntk_aware", "plain": "original"}[a.rope], rope_ref_h=a.rope_side,
        rope_ref_w=a.rope_side, lq_in_channels=0, lq_latent_channels=a.latent_channels,
        lq_hidden_dim=a.projection, lq_num_res_blocks=a.residuals, lq_latent_unpatchify_factor=a.unpatchify,
        lq_conv_padding_mode="replicate" if a.replicate else "zeros", lq_interval=a.interval,
        lq_gate_type="sigma_aware_per_token_per_dim" if a.gate_per_channel else "sigma_aware_per_token",
        sr_scale=a.scale, latent_spatial_down_factor=a.latent_factor, pit_lq_inject=a.pixel_injection,
    )  # fmt: skip


def main(checkout: Path) -> None:
    import torch

    found = {}
    for name, (a, *_) in CASES.items():
        net = network(checkout, a)
        net.load_state_dict({key: torch.from_numpy(one.load().copy()) for key, one in random_tensors(a, 7).items()})
        x, t, latent, sigma, caption = given(name)
        batch = len(x)
        with torch.inference_mode():
            out = net(
                torch.from_numpy(x),
                torch.full((batch,), t),
                torch.from_numpy(caption).expand(batch, -1, -1),
                lq_latent=torch.from_numpy(latent),
                degrade_sigma=torch.full((batch,), sigma),
            )
        found[name] = out.numpy().reshape(-1)[::7]
        print(name, out.shape, float(out.std()))
    np.savez_compressed(Path(__file__).with_name("pid_network.npz"), **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
