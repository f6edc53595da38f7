"""Runs of diffusers' flow schedulers, stored with the script that made them (parity/diffusers_numbers.py).

Every state of ours over the same sigmas, with the same network and noise, agrees to 1e-6 of the state's size, and the
sigmas that `from_diffusers` makes agree to float32's rounding. Known differences:
- Euler, Heun and LCM shift the ends of the list that they shift again. That is theirs; `from_diffusers` does so too,
  our own lists (`timesteps.shifted`) are shifted once.
- diffusers' UniPC with B(h) = h ("bh1") gives NaN in a last step to 0; ours returns x0.
- diffusers' UniPC of order 3 takes the last step but one at order 2 (lower_order_final); ours keeps order 3.
- diffusers' sde-dpmsolver++ of order 3 has "- 0.5" in the weight of its last difference where k-diffusion's 3M SDE, and
  the expansion of its own formula for the ODE, have "+ 0.5": from the third step on its states are others.
- diffusers' DEIS ends with a step of no length at its smallest sigma; ours takes lists as they are given.
"""

import json

import numpy as np
import pytest
from paths import PARITY

from pidsampler import from_diffusers, get_scheduler, sample, start, timesteps
from pidsampler.denoiser import GaussianMixture
from pidsampler.noise import torch
from pidsampler.schedulers import DEIS

DATA = json.loads((PARITY / "diffusers.json").read_text())
X = np.array(DATA["x"]).reshape(1, 1, 1, -1)
LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])


def name(run):
    c = run["config"]
    kinds = [key for key, value in c.items() if value is True and key not in ("use_flow_sigmas", "predict_x0")]
    order = f"{c.get('algorithm_type', '')} {c['solver_order']} {c['solver_type']}" if "solver_order" in c else ""
    return f"{c['_class_name']} {order} {' '.join(kinds)}"


def ours(run):
    if run["config"].get("solver_order") != 3:
        return from_diffusers(run["config"], run["steps"], mu=run["mu"], sigmas=run["given"])
    with pytest.warns(UserWarning, match="not honored are .*lower_order_final=True"):
        return from_diffusers(run["config"], run["steps"], mu=run["mu"], sigmas=run["given"])


def noise(seed, draw, shape):
    """Their first re-noise is the first draw after the seed."""
    return torch.normal(5, draw - 1, shape)


@pytest.mark.parametrize("run", DATA["runs"], ids=name)
def test_times_agree(run):
    found = ours(run).timesteps
    assert len(found) == len(run["sigmas"])
    assert np.abs(found - run["sigmas"]).max() < 1.2e-7
    assert found == pytest.approx(run["sigmas"], rel=1e-6)


@pytest.mark.parametrize("run", DATA["runs"], ids=name)
@pytest.mark.usefixtures("both")
def test_states_agree(run):
    made = ours(run)
    table = type(made)(run["sigmas"], **made.options).table()
    steps = start(table, X, noise=noise)
    assert len(table) == len(run["states"])
    m = np.empty_like(X)
    for k, state in enumerate(run["states"], 1):
        LAW.predict(steps.x, steps.row.t, m)
        steps.step(m)
        theirs = np.array(state, float)
        if made.options.get("order") == 3 and run["config"]["_class_name"].startswith("UniPC") and k >= len(table) - 1:
            continue
        if not np.isfinite(theirs).all():
            assert run["config"]["solver_type"] == "bh1"
            assert k == len(table)
            assert np.isfinite(steps.x).all()
            continue
        error = np.abs(steps.x.ravel() - theirs).max() / np.abs(theirs).max()
        if k >= 3 and run["config"].get("solver_order") == 3 and "sde" in run["config"].get("algorithm_type", ""):
            assert 1e-6 < error < 0.5
        else:
            assert error < 1e-6


@pytest.mark.parametrize("run", DATA["deis"], ids=name)
@pytest.mark.usefixtures("both")
def test_deis_agrees(run):
    """No list of theirs begins alike (its smallest sigma ends it), so only the steps are compared."""
    order, sigmas = run["config"]["solver_order"], run["sigmas"]
    assert sigmas[-1] == sigmas[-2]
    for k, state in enumerate(run["states"][:-1], 1):
        found = sample(LAW, DEIS(sigmas[: k + 1], order), x=X, dtype=np.float64)
        assert np.abs(found.ravel() - state).max() < 1e-6 * np.abs(state).max()


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ("uniform:8", {}),
        ("shifted(shift=3):8", {"shift": 3.0}),
        ("flux(mu=1.15):8", {"use_dynamic_shifting": True, "shift": 3.0}),
        ("karras(t_min=0.125):8", {"use_karras_sigmas": True}),
        ("exponential(t_min=0.125):8", {"use_exponential_sigmas": True}),
    ],
)
def test_our_lists_are_theirs_over_the_same_sigmas(spec, config):
    [run] = [
        run
        for run in DATA["runs"]
        if run["given"]
        and run["config"]["_class_name"] == "FlowMatchEulerDiscreteScheduler"
        and all(run["config"][key] == value for key, value in config.items())
        and len(config) == sum((run["config"]["shift"] != 1.0, any(v is True for v in run["config"].values())))
    ]
    assert get_scheduler(f"flow-ode@{spec}").timesteps == pytest.approx(run["sigmas"], rel=1e-6)


LISTS = json.loads((PARITY / "lists.json").read_text())["lists"]


@pytest.mark.parametrize("spec", LISTS)
def test_lists_of_k_diffusion_and_comfyui(spec):
    """Made by their own functions, in float32 (parity/lists_numbers.py)."""
    assert get_scheduler(f"flow-ode@{spec}").timesteps == pytest.approx(LISTS[spec], rel=1e-6, abs=1e-7)


def test_every_list_of_theirs_is_compared():
    compared = {spec.split("(")[0].split(":")[0] for spec in LISTS}
    theirs = {"karras", "exponential", "polyexponential", "kl_optimal", "linear_quadratic"}
    assert compared == theirs | {"simple", "sgm_uniform", "ddim_uniform", "beta"}


SAMPLERS = json.loads((PARITY / "samplers.json").read_text())
MIXTURES = LAW, GaussianMixture([0.2, -0.4], [0.5, 0.3], [1, 1])  # the second is the unconditional one


@pytest.mark.parametrize("run", SAMPLERS["runs"], ids=lambda run: f"{run['spec']} from {run['sigmas'][0]:g}")
def test_samplers_of_comfyui(run):
    """Made by its own functions (parity/samplers_numbers.py): each x that it evaluates, and the result, are ours."""
    table = get_scheduler(run["spec"], timesteps.custom(run["sigmas"], partial=True)).table()

    def noise(seed, draw, shape):
        return np.array(SAMPLERS["noise"][draw - 1]).reshape(shape)

    steps, asked = start(table, np.array(SAMPLERS["x"]).reshape(1, 1, 1, -1), noise=noise), []
    for row in steps:
        if row.net or not table.asks_both:  # theirs asks for both outputs at once
            asked.append(steps.x.ravel().copy())
        steps.advance(MIXTURES if table.asks_both else LAW)
    theirs = np.array([*run["asked"], run["result"]])
    assert np.abs(np.array([*asked, steps.x.ravel()]) - theirs).max() < 1e-9


@pytest.mark.parametrize("run", SAMPLERS["stork"], ids=lambda run: f"{run['order']} {len(run['times'])}")
def test_stork(run):
    """Its last step goes on by the polynomial, ours gives x0. On equal steps our exact form is near, and no more."""
    x = np.array(SAMPLERS["x"]).reshape(1, 1, 1, -1)
    off = {}
    for form in ("published", "exact"):
        steps, asked = start(get_scheduler("stork", run["times"], order=run["order"], form=form), x), []
        for _ in steps:
            asked.append(steps.x.ravel().copy())
            steps.advance(LAW)
        assert steps.table.times == pytest.approx(run["sigmas"], rel=1e-12)
        off[form] = np.abs(np.array(asked) - run["asked"]).max()
    assert off["published"] < 1e-7
    assert 1e-4 < off["exact"] < 0.1
