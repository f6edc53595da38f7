"""Make diffusers.json: what diffusers' flow schedulers do to a fixed x with a network whose formula is known.

    pip install torch diffusers && python tests/parity/diffusers_numbers.py

The network is the exact velocity of pidsampler's GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2]), written here in
PyTorch again. Sigmas are turned to float64 after they are set, so that the numbers are not diffusers' rounding.
"""

import json
import math
from pathlib import Path

import diffusers
import torch

X = torch.linspace(-2.5, 2.5, 12, dtype=torch.float64)[None]  # diffusers' sums want a batch


def velocity(x, t):
    """Posterior mean of eps - x0 at noise level t."""
    means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in ([-0.6, 0.5], [0.3, 0.2], [1 / 3, 2 / 3]))
    spread = (1 - t) ** 2 * stds**2 + t**2
    off = x[..., None] - (1 - t) * means
    posterior = torch.softmax(torch.log(weights) - 0.5 * torch.log(spread) - 0.5 * off**2 / spread, dim=-1)
    return (posterior * ((t - (1 - t) * stds**2) / spread * off - means)).sum(-1)


def run(name, steps, spec, **config):
    """Return every state of a run over the scheduler's own sigmas."""
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    x, states, sigmas = X.clone(), [], []
    for t in scheduler.timesteps:
        if scheduler.step_index is None:
            scheduler._init_step_index(t)
        sigma = scheduler.sigmas[scheduler.step_index]
        sigmas.append(float(sigma))
        x = scheduler.step(velocity(x, sigma), t, x).prev_sample
        states.append([v if math.isfinite(v) else None for v in x[0].tolist()])
    last = float(scheduler.sigmas[-1])
    if last == sigmas[-1]:  # DEIS repeats its smallest sigma at the end: a step of no length
        states.pop()
    else:
        sigmas.append(last)
    return {
        "class": name,
        "config": config,
        "spec": spec,
        "sigmas": sigmas,
        "states": states,
    }


def sigmas(spec, steps, mu=None, **config):
    """Return the sigmas that diffusers makes for steps that begin at 1 and are 1/steps apart."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)], mu=mu)
    return {"config": config, "spec": spec.format(last=1 / steps), "sigmas": scheduler.sigmas.tolist()}


def main():
    """Write diffusers.json beside this script."""
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    runs = [
        run("FlowMatchEulerDiscreteScheduler", 12, "flow-ode", shift=3.0),
        run("FlowMatchHeunDiscreteScheduler", 8, "heun", shift=3.0),
        run("DPMSolverMultistepScheduler", 20, "dpmpp-2m", solver_order=2, **flow),
        run("DPMSolverMultistepScheduler", 20, "dpmpp-3m", solver_order=3, **flow),
        run("DEISMultistepScheduler", 20, "deis(order=2)", solver_order=2, **flow),
        run("DEISMultistepScheduler", 20, "deis(order=3)", solver_order=3, **flow),
    ]
    for order in (1, 2, 3):
        for b in ("bh1", "bh2"):
            spec = f"unipc(order={order},b={b})"
            runs.append(run("UniPCMultistepScheduler", 20, spec, solver_order=order, solver_type=b, **flow))
    lists = [
        sigmas("uniform:8", 8),
        sigmas("shifted(shift=3):8", 8, shift=3.0),
        sigmas("flux(mu=1.15):8", 8, mu=1.15, use_dynamic_shifting=True),
        sigmas("karras(t_min={last}):8", 8, use_karras_sigmas=True),
        sigmas("exponential(t_min={last}):8", 8, use_exponential_sigmas=True),
    ]
    data = {
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "x": X[0].tolist(),
        "lists": lists,
        "runs": runs,
    }
    Path(__file__).with_name("diffusers.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
