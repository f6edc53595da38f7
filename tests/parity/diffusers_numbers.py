"""Make diffusers.json: what diffusers' flow schedulers do to a fixed x with a network whose formula is known.

    pip install torch diffusers && python tests/parity/diffusers_numbers.py

The network is the exact velocity of pidsampler's GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2]), written here in
PyTorch again. Sigmas are turned to float64 after they are set, so that the numbers are not diffusers' rounding.
"""

import json
import math
from pathlib import Path

import diffusers
import numpy as np
import torch

X = torch.linspace(-2.5, 2.5, 12, dtype=torch.float64)[None]  # diffusers' sums want a batch


def velocity(x, t):
    """Posterior mean of eps - x0 at noise level t."""
    means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in ([-0.6, 0.5], [0.3, 0.2], [1 / 3, 2 / 3]))
    spread = (1 - t) ** 2 * stds**2 + t**2
    off = x[..., None] - (1 - t) * means
    posterior = torch.softmax(torch.log(weights) - 0.5 * torch.log(spread) - 0.5 * off**2 / spread, dim=-1)
    return (posterior * ((t - (1 - t) * stds**2) / spread * off - means)).sum(-1)


def run(name, steps=None, mu=None, given=None, **config):
    """Return a run's own sigmas and every state, with noise from torch.manual_seed(5)."""
    scheduler = getattr(diffusers, name)(**config)
    arguments = {"num_inference_steps": steps, "mu": mu, "sigmas": given and np.array(given)}
    scheduler.set_timesteps(**{key: value for key, value in arguments.items() if value is not None})
    scheduler.sigmas = scheduler.sigmas.double()
    x, states = X.clone(), []
    torch.manual_seed(5)
    for t in scheduler.timesteps:
        if scheduler.step_index is None:
            scheduler._init_step_index(t)
        sigma = scheduler.sigmas[scheduler.step_index]
        x = scheduler.step(velocity(x, sigma), t, x).prev_sample.double()
        states.append([v if math.isfinite(v) else None for v in x[0].tolist()])
    sigmas = scheduler.sigmas.tolist()
    if name == "FlowMatchHeunDiscreteScheduler":  # lists both evaluations of a step
        sigmas = [*sigmas[:-1:2], 0.0]
    saved = json.loads(scheduler.to_json_string())
    return {"config": saved, "steps": steps, "mu": mu, "given": given, "sigmas": sigmas, "states": states}


def main():
    """Write diffusers.json beside this script."""
    euler, heun, lcm = (f"FlowMatch{kind}Scheduler" for kind in ("EulerDiscrete", "HeunDiscrete", "LCM"))
    dpm, unipc = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    dynamic = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}
    eight = [1 - k / 8 for k in range(8)]
    runs = [
        run(euler, 12, shift=3.0),
        run(euler, 1, shift=3.0),
        run(euler, given=eight),
        run(euler, given=eight, shift=3.0),
        run(euler, given=eight, use_karras_sigmas=True),
        run(euler, given=eight, use_exponential_sigmas=True),
        run(euler, given=eight, mu=1.15, use_dynamic_shifting=True, shift=3.0),
        run(euler, 8, mu=1.8, use_dynamic_shifting=True, time_shift_type="linear", shift_terminal=0.1),
        run(euler, 8, shift=2.0, use_karras_sigmas=True),
        run(euler, 8, shift=2.0, use_exponential_sigmas=True),
        run(euler, 8, shift=2.0, use_beta_sigmas=True),
        run(euler, 6, stochastic_sampling=True),
        run(heun, 8, shift=3.0),
        run(lcm, 4, shift=2.5, num_train_timesteps=500),
        *(run(dpm, 20, solver_order=order, **flow) for order in (1, 2, 3)),
        run(dpm, 20, solver_type="heun", **flow),
        run(dpm, 20, mu=0.7, **dynamic),
        *(run(dpm, 20, algorithm_type="sde-dpmsolver++", solver_order=order, **flow) for order in (1, 2)),
        *(run(dpm, 20, algorithm_type="sde-dpmsolver++", solver_order=k, solver_type="heun", **flow) for k in (2, 3)),
        *(run(unipc, 20, solver_order=k, solver_type=b, **flow) for k in (1, 2, 3) for b in ("bh1", "bh2")),
        run(unipc, 20, mu=0.7, shift_terminal=0.02, **dynamic),
        run(unipc, given=eight, **flow),
    ]
    deis = diffusers.DEISMultistepScheduler
    data = {
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "x": X[0].tolist(),
        "runs": runs,
        "deis": [run(deis.__name__, 20, solver_order=order, **flow) for order in (2, 3)],
    }
    Path(__file__).with_name("diffusers.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
