"""Make edm.json: k-diffusion's Euler and Heun, with EDM's churn, and inside of Detail Daemon and Lying Sigma.

    pip install torch && python tests/parity/edm_numbers.py K_DIFFUSION DETAIL_DAEMON

Both are clones: of crowsonkb/k-diffusion and Jonseed/ComfyUI-Detail-Daemon. Only the functions named here are taken
from them, since importing either needs far more.

The network is the exact one of pidsampler's GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2]). Churn runs in EDM's own
variables, x0 + sigma*eps. Detail Daemon runs as in ComfyUI with a flow: sigma is t, and x0 = x - sigma*velocity.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

X = torch.linspace(-2.5, 2.5, 12, dtype=torch.float64)[None]
TIMES = [0.98, 0.85, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0]


def functions(repository, path, *names):
    """Return functions of a source file without importing it."""
    text = subprocess.run(["git", "-C", repository, "show", f"HEAD:{path}"], capture_output=True, check=True).stdout
    body = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name in names]
    utils = SimpleNamespace(append_dims=lambda x, n: x[(...,) + (None,) * (n - x.ndim)])
    found = {"torch": torch, "np": np, "utils": utils, "trange": lambda n, disable: range(n)}
    exec(compile("from __future__ import annotations", "", "exec"), found)
    exec(compile(ast.Module(body, []), path, "exec", flags=1 << 24), found)  # annotations stay text
    return [found[name] for name in names]


def velocity(x, t):
    """Posterior mean of eps - x0 at noise level t."""
    means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in ([-0.6, 0.5], [0.3, 0.2], [1 / 3, 2 / 3]))
    spread = (1 - t) ** 2 * stds**2 + t**2
    off = x[..., None] - (1 - t) * means
    posterior = torch.softmax(torch.log(weights) - 0.5 * torch.log(spread) - 0.5 * off**2 / spread, dim=-1)
    return (posterior * ((t - (1 - t) * stds**2) / spread * off - means)).sum(-1)


def edm(x, sigma):
    """Return x0 of x0 + sigma*eps: the flow's state is x/(1 + sigma), at t = sigma/(1 + sigma)."""
    t = sigma[0] / (1 + sigma[0])
    return x * (1 - t) - t * velocity(x * (1 - t), t)


def churn(sampler, **options):
    """Return a run over TIMES in EDM's variables, as states of the flow at the noise levels where steps begin."""
    sigmas, states, told = torch.tensor([t / (1 - t) for t in TIMES], dtype=torch.float64), [], []

    def looked(seen):
        states.append((seen["x"] / (1 + seen["sigma_hat"]))[0].tolist())
        told.append((seen["sigma_hat"] / (1 + seen["sigma_hat"])).item())

    torch.manual_seed(5)
    x = sampler(edm, X * (1 + sigmas[0]), sigmas, callback=looked, **options)
    name = sampler.__name__.removeprefix("sample_")
    return {"sampler": name, "options": options, "times": told, "states": [*states, x[0].tolist()]}


class Flow:
    """A flow in ComfyUI; it keeps what the network is told."""

    def __init__(self):
        self.told = []
        sampling = SimpleNamespace(percent_to_sigma=lambda percent: 1.0 - percent)
        self.inner_model = SimpleNamespace(cfg=1.0, inner_model=SimpleNamespace(model_sampling=sampling))

    def __call__(self, x, sigma):
        """Return x0."""
        self.told.append(sigma[0].item())
        return x - sigma[0] * velocity(x, sigma[0])


def told(sampler, wrapper, name, **options):
    """Return a run over TIMES with a wrapper of ComfyUI's."""
    model = Flow()
    inside = SimpleNamespace(sampler_function=sampler, extra_options={})
    x = wrapper(model, X, torch.tensor(TIMES, dtype=torch.float64), inside)
    method = sampler.__name__.removeprefix("sample_")
    return {"sampler": method, "wrapper": name, "options": options, "told": model.told, "x": x[0].tolist()}


def main(k_diffusion, detail_daemon):
    """Write edm.json beside this script."""
    names = ("to_d", "sample_euler", "sample_heun")
    _, euler, heun = functions(k_diffusion, "k_diffusion/sampling.py", *names)
    names = ("make_detail_daemon_schedule", "get_dd_schedule", "detail_daemon_sampler", "lying_sigma_sampler")
    schedule, _, daemon, lying = functions(detail_daemon, "detail_daemon_node.py", *names)

    def detail(sampler, amount=0.1, start=0.2, end=0.8, bias=0.5, exponent=1.0, smooth=True):
        def make(steps):
            return schedule(steps, start, end, bias, amount, exponent, 0.0, 0.0, 0.0, smooth)

        def wrapper(model, x, sigmas, inside):
            more = {"dds_wrapped_sampler": inside, "dds_make_schedule": make, "dds_cfg_scale_override": 0}
            return daemon(model, x, sigmas, **more)

        made = {"amount": amount, "start": start, "end": end, "bias": bias, "exponent": exponent, "smooth": smooth}
        return told(sampler, wrapper, "detail", **made)

    def lied(sampler, factor=-0.05, start=0.1, end=0.9):
        def wrapper(model, x, sigmas, inside):
            more = {
                "lss_wrapped_sampler": inside,
                "lss_dishonesty_factor": factor,
                "lss_startend_percent": (start, end),
            }
            return lying(model, x, sigmas, **more)

        return told(sampler, wrapper, "lying", factor=factor, start=start, end=end)

    everything = {
        "torch": torch.__version__,
        "x": X[0].tolist(),
        "list": TIMES,
        "churn": [
            churn(sampler, **options)
            for sampler in (euler, heun)
            for options in (
                {"s_churn": 0.0},
                {"s_churn": 1.5},
                {"s_churn": 40.0},
                {"s_churn": 2.0, "s_tmin": 0.2, "s_tmax": 3.0, "s_noise": 1.007},
            )
        ],
        "told": [
            *(detail(sampler) for sampler in (euler, heun)),
            *(detail(heun, -1.5, 0.1, 0.9, bias, 2.0, smooth) for bias in (0.0, 0.3, 1.0) for smooth in (True, False)),
            detail(euler, 5.0, 0.9, 0.5),
            detail(euler, 0.5, 0.0, 1.0),
            *(lied(sampler) for sampler in (euler, heun)),
            lied(heun, -0.3, 0.15, 0.6),
        ],
    }
    Path(__file__).with_name("edm.json").write_text(json.dumps(everything) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
