"""Make samplers.json: what ComfyUI's samplers and STORK's do to a fixed x of a flow with networks of known formulas.

    pip install torch diffusers scipy && python tests/parity/samplers_numbers.py COMFYUI STORK

COMFYUI is a clone of that repository, STORK one of ZT220501/STORK. The functions of ComfyUI's
comfy/k_diffusion/sampling.py and sa_solver.py run without the rest of it, which needs far more. The networks are the
exact velocities of two mixtures, one of them unconditional; noise is drawn once and stored. Each x that a sampler asks
its model about is stored, and the result.
"""

import ast
import importlib.util
import json
import math
import sys
import typing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

X = torch.linspace(-2.5, 2.5, 6, dtype=torch.float64)[None]
NOISE = torch.randn(9, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64).round(decimals=6)
MIXTURES = ([-0.6, 0.5], [0.3, 0.2], [1 / 3, 2 / 3]), ([0.2, -0.4], [0.5, 0.3], [1 / 2, 1 / 2])
LISTS = [0.95, 0.8, 0.6, 0.45, 0.3, 0.15, 0.05, 0.0], [1.0, 0.7, 0.4, 0.1, 0.0]

EQUAL = [0.96, 0.84, 0.72, 0.6, 0.48, 0.36, 0.24, 0.12, 0.0]


class CONST:
    """Names the kind of model: a flow."""


def functions(path, found):
    """Run the functions of a source file, and nothing else of it."""
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    exec(compile(ast.Module(body, []), str(path), "exec"), found)
    return found


def load(comfyui):
    """Return ComfyUI's sampling functions."""
    folder = Path(comfyui) / "comfy" / "k_diffusion"
    common = {"torch": torch, "math": math, "partial": partial}
    adams = functions(folder / "sa_solver.py", {**common, **vars(typing)})

    def with_hook(options, hook, **_):
        return {**options, "hook": hook}

    comfy = SimpleNamespace(
        model_sampling=SimpleNamespace(CONST=CONST),
        model_patcher=SimpleNamespace(set_model_options_post_cfg_function=with_hook),
    )
    modules = {
        "comfy": comfy,
        "utils": SimpleNamespace(append_dims=lambda x, n: x.reshape(x.shape + (1,) * (n - x.ndim))),
        "sa_solver": SimpleNamespace(**{k: v for k, v in adams.items() if callable(v)}),
        "trange": lambda n, **_: range(n),
    }
    return functions(folder / "sampling.py", {**common, **modules})


def x0(x, t, mixture):
    """The mean of the clean image, given x at noise level t."""
    means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in mixture)
    spread = (1 - t) ** 2 * stds**2 + t**2
    off = x[..., None] - (1 - t) * means
    posterior = torch.softmax(torch.log(weights) - 0.5 * torch.log(spread) - 0.5 * off**2 / spread, dim=-1)
    return (posterior * (means + (1 - t) * stds**2 / spread * off)).sum(-1)


def rounded(x):
    """Numbers to ten decimals, which is far below what is compared."""
    return x[0].round(decimals=10).tolist()


class Model:
    """A guided flow model as the samplers ask it."""

    def __init__(self, scale):
        kind = CONST()
        self.scale, self.asked = scale, []
        patcher = SimpleNamespace(get_model_object=lambda _: kind)
        self.inner_model = SimpleNamespace(
            model_patcher=patcher, inner_model=SimpleNamespace(model_sampling=kind), model_sampling=kind
        )

    def __call__(self, x, sigma, model_options=None):
        self.asked.append(rounded(x))
        c, u = (x0(x, sigma, mixture) for mixture in MIXTURES)
        if not model_options:
            return c
        guided = u + self.scale * (c - u)
        return model_options["hook"]({"denoised": guided, "uncond_denoised": u})


def run(sampling, spec, name, sigmas, scale=1.0, **options):
    """Return one sampler's run."""
    model, drawn = Model(scale), iter(NOISE)
    if options.pop("noisy", False):
        options["noise_sampler"] = lambda *_: next(drawn)[None]
    result = sampling[name](model, X.clone(), torch.tensor(sigmas, dtype=torch.float64), **options)
    return {"spec": spec, "name": name, "sigmas": sigmas, "asked": model.asked, "result": rounded(result)}


def stork_class(folder):
    """Return STORK's scheduler, in float64 and with its coefficients where its repository has them."""
    spec = importlib.util.spec_from_file_location("stork", Path(folder) / "STORKScheduler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["stork"] = module
    spec.loader.exec_module(module)
    module.CONSTANTSFOLDER = str(Path(folder) / "external" / "PNDM" / "runner" / "coefs")
    return module.STORKScheduler


def run_stork(cls, order, times):
    """Return one run over times that end at 0; it halves the first step itself."""
    scheduler = cls(solver_order=order, prediction_type="flow_prediction")
    scheduler.dtype, scheduler.np_dtype = torch.float64, float
    scheduler.set_timesteps(len(times) - 1, sigmas=times[:-1])
    x, asked = X.clone(), []
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        asked.append(rounded(x))
        x = scheduler.step((x - x0(x, sigma, MIXTURES[0])) / sigma, t, x).prev_sample
    return {"order": order, "times": times, "sigmas": scheduler.sigmas.tolist(), "asked": asked, "result": rounded(x)}


def main(comfyui, stork):
    """Write samplers.json beside this script."""
    torch.set_default_dtype(torch.float64)
    sampling, runs = load(comfyui), []

    def add(spec, name, **options):
        for sigmas in options.pop("lists", LISTS):
            runs.append(run(sampling, spec, name, sigmas, **options))

    for ours, theirs in (("dpm-2-ancestral", "dpm_2_ancestral"), ("dpmpp-2s-ancestral", "dpmpp_2s_ancestral")):
        add(ours, f"sample_{theirs}", noisy=True)
        add(f"{ours}(eta=0.4)", f"sample_{theirs}", noisy=True, eta=0.4)
    add("res-multistep-ancestral", "sample_res_multistep_ancestral", noisy=True)
    add("res-multistep-ancestral(eta=0.4)", "sample_res_multistep_ancestral", noisy=True, eta=0.4)
    add("res-multistep-ancestral(eta=0)", "sample_res_multistep")
    add("gradient-estimation", "sample_gradient_estimation")
    add("gradient-estimation(gamma=1.5)", "sample_gradient_estimation", ge_gamma=1.5)
    add("flow-ancestral", "sample_euler_ancestral", noisy=True)
    for scale in (1.0, 1.7):
        for name in ("euler", "dpmpp-2m", "res-multistep", "gradient-estimation"):
            add(f"{name}-cfg-pp(scale={scale})", f"sample_{name.replace('-', '_')}_cfg_pp", scale=scale)
        for name in ("euler-ancestral", "dpmpp-2s-ancestral", "res-multistep-ancestral"):
            theirs = f"sample_{name.replace('-', '_')}_cfg_pp"
            add(f"{name}-cfg-pp(scale={scale})", theirs, scale=scale, noisy=True)
            # From t = 1 its Euler draws all noise anew whatever eta: infinity less infinity decides it.
            lists = LISTS[:1] if name == "euler-ancestral" else LISTS
            add(f"{name}-cfg-pp(eta=0.4,scale={scale})", theirs, scale=scale, noisy=True, eta=0.4, lists=lists)
    for order in (1, 2, 3):
        for form in ("", "-pece"):
            # Its last steps are of lower order where a list ends at 0, ours are not: so this one ends above.
            orders = {"predictor_order": order, "corrector_order": order + 1}
            for tau in (0.0, 0.6):
                spec, name = f"sa-solver{form}(order={order},tau={tau})", f"sample_sa_solver{form.replace('-', '_')}"
                add(spec, name, lists=[LISTS[0][:-1]], noisy=True, tau_func=lambda _, tau=tau: tau, **orders)
    cls = stork_class(stork)
    storks = [run_stork(cls, order, times) for order in (2, 4) for times in (EQUAL, LISTS[0])]
    data = {"torch": torch.__version__, "x": X[0].tolist(), "noise": NOISE.tolist(), "runs": runs, "stork": storks}
    Path(__file__).with_name("samplers.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
