"""Make exponential.json: runs of RES4LYF's tableaux by its own code, and of ComfyUI's formulas in -log(sigma).

    pip install torch mpmath && python tests/parity/exponential_numbers.py RES4LYF

RES4LYF is a clone of that repository (022c873 made the numbers). Its tableaux come from `get_rk_methods_beta`, taken
from the source file since importing it needs ComfyUI. What is around them, and ComfyUI's `res_multistep`, `dpmpp_2m`
and `seeds_2` with r = 1 and eta = 0 (`exp_heun_2_x0`), is written down here in their notation, in float64.
"""

import ast
import copy
import json
import math
import random
import sys
from itertools import pairwise
from pathlib import Path
from typing import Optional

import mpmath
import torch

MEANS, VARIANCES, WEIGHTS = (-0.6, 0.5), (0.09, 0.04), (1 / 3, 2 / 3)
X = [-2.5, -1.3, -0.6, -0.1, 0.2, 0.7, 1.4, 2.2]
SIGMAS = [1.0, 0.93, 0.75, 0.5, 0.22, 0.05, 0.0]
EXPONENTIAL = (
    *("res_2s", "res_3s", "res_5s", "etdrk2_2s", "res_3s_cox_matthews", "res_4s_krogstad"),
    *("etdrk4_4s", "res_5s_hochbruck-ostermann"),  # which are not of order 4
)
LINEAR = ("rk38_4s", "ralston_3s", "ralston_4s", "ssprk4_4s", "bogacki-shampine_4s", "dormand-prince_6s", "tsi_7s")


def denoised(x, sigma):
    """The clean number that a flow of two Gaussians expects behind each x."""
    found = []
    for value in x:
        parts = []
        for mean, variance, weight in zip(MEANS, VARIANCES, WEIGHTS, strict=True):
            spread = (1 - sigma) ** 2 * variance + sigma**2
            off = value - (1 - sigma) * mean
            parts.append(
                (weight * math.exp(-off * off / (2 * spread)) / math.sqrt(spread), spread, off, mean, variance)
            )
        total = sum(p for p, *_ in parts)
        found.append(sum(p * (m + (1 - sigma) * v * off / s) for p, s, off, m, v in parts) / total)
    return found


def mixed(*parts):
    """The sum of weight * list."""
    return [sum(float(w) * values[k] for w, values in parts) for k in range(len(X))]


def res4lyf(folder):
    """Return RES4LYF's function of a name and a step that gives a tableau."""

    class Phi:
        def __init__(self, h, c, _):
            self.h, self.c = h, c

        def __call__(self, j, i=-1):
            z = -mpmath.mpf(float(self.h)) * (1 if i < 0 else self.c[i - 1])
            if z == 0:
                return 0
            return (mpmath.exp(z) - sum(z**k / mpmath.factorial(k) for k in range(j))) / z**j

    class Options:
        def __init__(self, _):
            pass

        def __call__(self, name, default=False, debugMode=0):
            return default

    names = {
        "get_rk_methods_beta",
        "gen_first_col_exp",
        "calculate_gamma",
        "rk_coeff",
        *(f"{k}_crouzeix" for k in ("alpha", "gamma", "delta")),
    }
    body = []
    for file in ("rk_coefficients_beta.py", "phi_functions.py"):
        for node in ast.parse((Path(folder) / "beta" / file).read_text()).body:
            name = node.name if isinstance(node, ast.FunctionDef) else ""
            if isinstance(node, ast.Assign):
                name = getattr(node.targets[0], "id", "")
            if name in names:
                body.append(node)
    found = {"ExtraOptions": Options, "Phi": Phi, "Tensor": torch.Tensor, "Optional": Optional}
    found |= {"copy": copy, "math": math, "random": random, "torch": torch}
    found |= {"get_extra_options_kv": lambda name, default, options: default, "is_exponential": lambda name: True}
    found |= {"RESplain": lambda *text, **options: None}
    exec(compile(ast.Module(body, []), "rk_coefficients_beta.py", "exec"), found)

    def tableau(name, h, step):
        times = torch.tensor(SIGMAS, dtype=torch.float64)
        steps = {"sigmas": times, "sigma": times[step], "sigma_next": times[step + 1], "sigma_down": times[step + 1]}
        a, b, _, _, c, *_ = found["get_rk_methods_beta"](name, torch.tensor(h, dtype=torch.float64), step=step, **steps)
        return a, b[0], c

    return tableau


def exponential(tableau, name):
    """x_c = exp(-c*h)*x + h*sum a*x0 in -log(sigma)."""
    x = X
    for step, (sigma, after) in enumerate(pairwise(SIGMAS)):
        if after == 0:
            x = denoised(x, sigma)
            break
        h = -math.log(after / sigma)
        a, b, c = tableau(name, h, step)
        x0 = [denoised(x, sigma)]
        for row, share in zip(a[1:], c[1:], strict=False):
            at = mixed((math.exp(-share * h), x), *((h * w, v) for w, v in zip(row, x0, strict=False)))
            x0.append(denoised(at, sigma * math.exp(-share * h)))
        x = mixed((math.exp(-h), x), *((h * w, v) for w, v in zip(b, x0, strict=True)))
    return x


def linear(tableau, name):
    """x_c = x + h*sum a*(x - x0)/sigma in sigma."""
    x = X
    for step, (sigma, after) in enumerate(pairwise(SIGMAS)):
        if after == 0:
            x = denoised(x, sigma)
            break
        h = after - sigma
        a, b, c = tableau(name, h, step)
        slopes = []
        for row, share in zip(a, c, strict=False):
            at, time = mixed((1, x), *((h * w, v) for w, v in zip(row, slopes, strict=False))), sigma + share * h
            slopes.append(mixed((1 / time, at), (-1 / time, denoised(at, time))))
        x = mixed((1, x), *((h * w, v) for w, v in zip(b, slopes, strict=True)))
    return x


def multistep(b_of):
    """sigma'/sigma*x + h*(b1*x0 + b2*x0_before) in -log(sigma); Euler's at first and to 0."""
    x, before, h_before = X, None, None
    for sigma, after in pairwise(SIGMAS):
        x0 = denoised(x, sigma)
        if after == 0:
            return x0
        h = math.log(sigma) - math.log(after)
        b1, b2 = (-math.expm1(-h) / h, 0.0) if before is None else b_of(h, h_before)
        x = mixed((after / sigma, x), (h * b1, x0), (h * b2, x0 if before is None else before))
        before, h_before = x0, h
    return x


def res_multistep(h, h_before):
    c2 = -h_before / h
    phi1 = math.expm1(-h) / -h
    phi2 = (phi1 - 1) / -h
    return phi1 - phi2 / c2, phi2 / c2


def dpmpp_2m(h, h_before):
    r, phi1 = h_before / h, math.expm1(-h) / -h
    return phi1 * (1 + 1 / (2 * r)), -phi1 / (2 * r)


def exp_heun_2_x0():
    """Seeds_2 of ComfyUI in half the log-SNR, r = 1, eta = 0, solver_type "phi_2", from below 1."""
    x = X
    for sigma, after in pairwise(SIGMAS[1:]):
        x0 = denoised(x, sigma)
        if after == 0:
            return x0
        h = math.log((1 - after) / after) - math.log((1 - sigma) / sigma)
        second = denoised(mixed((after / sigma, x), (-(1 - after) * math.expm1(-h), x0)), after)
        b2 = (math.expm1(-h) + h) / -h
        b1 = math.expm1(-h) - b2
        x = mixed((after / sigma, x), (-(1 - after) * b1, x0), (-(1 - after) * b2, second))
    return x


def main(folder):
    """Write the file beside this one."""
    tableau = res4lyf(folder)
    runs = {f"res4lyf:{name}": exponential(tableau, name) for name in EXPONENTIAL}
    runs |= {f"res4lyf:{name}": linear(tableau, name) for name in LINEAR}
    runs |= {"comfy:res_multistep": multistep(res_multistep), "comfy:dpmpp_2m": multistep(dpmpp_2m)}
    runs["comfy:exp_heun_2_x0"] = exp_heun_2_x0()
    data = {"x": X, "sigmas": SIGMAS, "runs": runs}
    Path(__file__).with_name("exponential.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
