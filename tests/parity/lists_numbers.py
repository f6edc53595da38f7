"""Make lists.json: the timestep lists of k-diffusion and ComfyUI by their own functions.

    pip install torch scipy && pip install --no-deps k-diffusion && python tests/parity/lists_numbers.py COMFYUI

COMFYUI is a clone of that repository. Only the functions named here are taken from its comfy/samplers.py, and from
k-diffusion's sampling.py, since importing either needs far more. The model is a flow with 1000 discrete times.
"""

import ast
import importlib.metadata
import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy
import scipy.stats
import torch


def functions(path, *names):
    """Return functions of a source file without importing it."""
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    found = {"torch": torch, "math": math, "numpy": numpy, "scipy": scipy}
    exec(compile(ast.Module([f for f in body if f.name in names], []), str(path), "exec"), found)
    return [found[name] for name in names]


class Flow:
    """A flow model's times as ComfyUI's ModelSamplingDiscreteFlow has them."""

    def __init__(self, shift):
        self.shift = shift
        self.sigmas = self.sigma(torch.arange(1, 1001, dtype=torch.float64))
        self.sigma_min, self.sigma_max = self.sigmas[0], self.sigmas[-1]

    def sigma(self, timestep):
        """Shift a timestep in 0..1000."""
        return self.shift * (timestep / 1000) / (1 + (self.shift - 1) * (timestep / 1000))

    def timestep(self, sigma):
        """Return the timestep that an unshifted model has the noise level at."""
        return sigma * 1000


def main(comfyui):
    """Write lists.json beside this script."""
    names = "append_zero", "get_sigmas_karras", "get_sigmas_exponential", "get_sigmas_polyexponential"
    sampling = Path(find_spec("k_diffusion").submodule_search_locations[0]) / "sampling.py"
    _, karras, exponential, polyexponential = functions(sampling, *names)
    simple, ddim, normal, beta, quadratic, kl = functions(
        Path(comfyui) / "comfy" / "samplers.py",
        *("simple_scheduler", "ddim_scheduler", "normal_scheduler", "beta_scheduler"),
        *("linear_quadratic_schedule", "kl_optimal_scheduler"),
    )
    lists = {}
    for n in (4, 9, 20):
        lists[f"karras:{n}"] = karras(n, 0.001, 1.0)
        lists[f"karras(rho=5,t_max=0.9,t_min=0.02):{n}"] = karras(n, 0.02, 0.9, rho=5.0)
        lists[f"exponential(t_min=0.01):{n}"] = exponential(n, 0.01, 1.0)
        lists[f"polyexponential(rho=0.7):{n}"] = polyexponential(n, 0.001, 1.0, rho=0.7)
        lists[f"kl_optimal:{n}"] = kl(n, 0.001, 1.0)
        lists[f"linear_quadratic:{n}"] = quadratic(Flow(1.0), n)
        for shift in (1, 3):
            model = Flow(shift)
            lists[f"simple(shift={shift}):{n}"] = simple(model, n)
            lists[f"sgm_uniform(shift={shift}):{n}"] = normal(model, n, sgm=True)
            lists[f"ddim_uniform(shift={shift}):{n}"] = ddim(model, n)
            lists[f"beta(shift={shift}):{n}"] = beta(model, n)
    versions = {name: importlib.metadata.version(name) for name in ("k-diffusion", "torch", "scipy")}
    data = {**versions, "lists": {spec: sigmas.tolist() for spec, sigmas in lists.items()}}
    Path(__file__).with_name("lists.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
