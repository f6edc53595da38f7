"""A sampler with k-diffusion's signature, over flows and variance-exploding models."""

import numpy as np
import pytest
from pages import python_blocks

import pidsampler as ps
from pidsampler.interop import k_diffusion

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra diffusers")


def _rand(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _x0(x, sigma, **_):
    """A flow's x0 of the velocity 0.3*x."""
    return x - sigma.reshape(-1, 1, 1, 1) * 0.3 * x


class _CONST:
    model_sampling = type("CONST", (), {})()
    __call__ = staticmethod(_x0)


SIGMAS = torch.tensor([0.9, 0.6, 0.3, 0.0])


MEANS, STD = (-1.0, 0.6), 0.3
MIXTURE = ps.denoiser.GaussianMixture(MEANS, (STD, STD), (0.5, 0.5))
NAMED = {info.name: info.stochastic for info in ps.list_schedulers() if "cfg-pp" not in info.name}


def _mixture_x0(x, sigma, **_):
    """The mean of the image, given a flow's x: of each Gaussian, by how likely it is."""
    x, t = x.double(), sigma.double().reshape(-1, 1, 1, 1)
    a, variance = 1 - t, (1 - t) ** 2 * STD**2 + t**2
    means = torch.stack([mean + a * STD**2 / variance * (x - a * mean) for mean in MEANS])
    likely = torch.stack([-((x - a * mean) ** 2) / (2 * variance) for mean in MEANS]).softmax(0)
    return (likely * means).sum(0).float()


def _mixture_x0_ve(x, sigma, **_):
    over = 1 + sigma.double().reshape(-1, 1, 1, 1)
    return _mixture_x0(x.double() / over, sigma.double() / (1 + sigma.double()))


def _ve(x, times):
    """x and sigmas of a variance-exploding model, for those of a flow."""
    sigmas = torch.tensor([t / (1 - t) for t in times])
    return x * (1 + sigmas[0]), sigmas


def _drawn(name):
    """Falling times from 0.6..0.95 to 0, at least 0.03 apart, and a seed: others for each name."""
    rng = np.random.default_rng(list(name.encode()))
    inner = 0.03 * rng.choice(np.arange(1, 20), size=rng.integers(2, 5), replace=False)
    return [float(rng.uniform(0.6, 0.95)), *sorted(inner.tolist(), reverse=True), 0.0], int(rng.integers(2**63))


@pytest.mark.parametrize("name", NAMED)
def test_both_spaces_are_sample(name):
    times, seed = _drawn(name)
    x, told = _rand(2, 1, 4, 4), []
    expected = ps.sample(MIXTURE, ps.get_scheduler(name, times), x=x.numpy(), seed=seed)
    options = {"extra_args": {"seed": seed}, "callback": lambda d: told.append(d["i"]), "disable": True}
    flow = k_diffusion.sampler(name)(_mixture_x0, x, torch.tensor(times), **options)
    ve = k_diffusion.sampler(name, space="ve")(_mixture_x0_ve, *_ve(x, times), **options)
    assert flow.numpy() == pytest.approx(expected, abs=2e-5)
    assert ve.numpy() == pytest.approx(expected, abs=2e-5)
    assert told == [*range(len(times) - 1)] * 2


@pytest.mark.parametrize("name", [name for name, stochastic in NAMED.items() if stochastic])
def test_a_noise_sampler_is_used_in_both_spaces(name):
    times, x, asked = [0.9, 0.6, 0.3, 0.0], _rand(2, 1, 4, 4), []

    def noise_sampler(generator):
        def draw(sigma, sigma_next):
            asked.append((float(sigma), float(sigma_next)))
            return torch.randn(x.shape, generator=generator)

        return draw

    def run(space, model, x, sigmas, seed):
        noise = noise_sampler(torch.Generator().manual_seed(seed))
        return k_diffusion.sampler(name, space=space)(model, x, sigmas, noise_sampler=noise, disable=True)

    flow = run("flow", _mixture_x0, x, torch.tensor(times), 5)
    ve = run("ve", _mixture_x0_ve, *_ve(x, times), 5)
    other = run("flow", _mixture_x0, x, torch.tensor(times), 6)
    assert ve.numpy() == pytest.approx(flow.numpy(), abs=2e-5)
    assert not torch.allclose(flow, other, atol=1e-3)
    half = len(asked) // 3
    assert asked[:half] == asked[2 * half :]
    assert [s / (1 + s) for s, _ in asked[half : 2 * half]] == pytest.approx([s for s, _ in asked[:half]], abs=1e-6)


@pytest.mark.parametrize("spec", ["heun.detail(amount=0.3)", "unipc.time_shift(by=0.02)", "dpmpp-2m.lying"])
def test_a_network_may_be_told_another_time(spec):
    times, x = [0.9, 0.6, 0.3, 0.0], _rand(2, 1, 4, 4)
    scheduler = ps.get_scheduler(spec, times)
    assert any(row.at != row.t for row in scheduler.table())
    flow = k_diffusion.sampler(spec)(_mixture_x0, x, torch.tensor(times), disable=True)
    assert flow.numpy() == pytest.approx(ps.sample(MIXTURE, scheduler, x=x.numpy()), abs=2e-5)
    run = ps.start(scheduler, x.numpy())
    for row in run:  # a variance-exploding network's noise is of the sigma it is told, and x0 read where the row says
        read, told, y = -row.q, row.at / (1 - row.at), torch.tensor(run.x) / (1 - row.t)
        noise = (y - _mixture_x0_ve(y, torch.full((2,), told))) / told
        run.step((run.x - (y - read / (1 - read) * noise).numpy()) / np.float32(read))
    ve = k_diffusion.sampler(spec, space="ve")(_mixture_x0_ve, *_ve(x, times), disable=True)
    assert ve.numpy() == pytest.approx(run.x, abs=5e-5)


@pytest.mark.parametrize("name", ["unipc", "heun", "dpmpp-2m", "flow-sde"])
def test_a_flow_may_begin_at_one(name):
    x, times = _rand(2, 1, 4, 4), [1.0, 0.5, 0.0]
    expected = ps.sample(MIXTURE, ps.get_scheduler(name, times), x=x.numpy(), seed=4)
    found = k_diffusion.sampler(name)(_mixture_x0, x, torch.tensor(times), extra_args={"seed": 4}, disable=True)
    assert found.numpy() == pytest.approx(expected, abs=2e-5)
    with pytest.raises(ps.PidSamplerError, match="has no time 1"):
        k_diffusion.sampler(ps.get_scheduler(name, times), space="ve")(
            _mixture_x0_ve, x, torch.tensor([1e7, 1.0, 0.0]), disable=True
        )


def test_ve_euler_is_k_diffusions():
    sigmas, x = torch.tensor([14.6, 3.0, 0.5, 0.0]), 14.6 * _rand(1, 3, 4, 4)

    def model(x, sigma):  # images of N(0, 1)
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    expected = x.double()
    for s, s_next in zip(sigmas.double(), sigmas.double()[1:], strict=False):
        expected = expected + (expected - model(expected, s)) / s * (s_next - s)
    found = k_diffusion.sampler("flow-ode", space="ve")(model, x, sigmas, disable=True)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    with pytest.raises(ps.PidSamplerError, match=r"sigmas begin at 14\.6, above 1: .* pass space='ve'"):
        k_diffusion.sampler("flow-ode")(model, x, sigmas, disable=True)
    eps = type("EPS", (), {})()
    wrapped = type("Wrapper", (), {"model_sampling": eps, "__call__": lambda self, x, s: model(x, s)})()
    outer = type("Outer", (), {"inner_model": wrapped, "__call__": lambda self, x, s: model(x, s)})()
    assert torch.equal(k_diffusion.sampler("flow-ode")(outer, x, sigmas, disable=True), found)
    with pytest.raises(ps.PidSamplerError, match="above 1"):
        k_diffusion.sampler("flow-ode")(_CONST(), x, sigmas, disable=True)


def test_k_diffusion_takes_their_noise_sampler_and_refuses_other_lists():
    asked = []

    def noise_sampler(sigma, sigma_next):
        asked.append((round(float(sigma), 3), round(float(sigma_next), 3)))
        return torch.ones(2, 3, 4, 4)

    found = k_diffusion.sampler("flow-sde")(
        _x0, _rand(2, 3, 4, 4), SIGMAS[:2], noise_sampler=noise_sampler, disable=True
    )
    x0 = _rand(2, 3, 4, 4) * (1 - 0.9 * 0.3)
    assert asked == [(0.9, 0.6)]
    assert torch.allclose(found, 0.4 * x0 + 0.6, atol=1e-6)
    with pytest.raises(ps.PidSamplerError, match=r"goes from t=0\.999 to 0, and the sigmas from t=0\.9"):
        k_diffusion.sampler("flow-sde@pid")(_x0, _rand(2, 3, 4, 4), SIGMAS, disable=True)
    with pytest.raises(ps.PidSamplerError, match="pair of networks"):
        k_diffusion.sampler("euler-cfg-pp")(_x0, _rand(2, 3, 4, 4), SIGMAS, disable=True)


def test_the_pages_example_runs():
    (called,) = python_blocks("comfyui")
    told = []
    exec(called, scope := {"ps": ps, "model": _x0, "x": _rand(1, 3, 4, 4), "sigmas": SIGMAS, "show": told.append})
    assert len(told) == 3
    assert torch.isfinite(scope["x"]).all()


@pytest.mark.parametrize("module", ["k_diffusion.external", "elsewhere"])
def test_k_diffusions_own_wrappers_are_of_ve_models(module):
    def call(self, x, sigma):
        return _mixture_x0_ve(x, sigma) if module == "k_diffusion.external" else _mixture_x0(x, sigma)

    model = type("CompVisDenoiser", (), {"__module__": module, "__call__": call})()
    guided = type(
        "CFGDenoiser", (), {"inner_model": model, "__call__": lambda self, x, sigma: self.inner_model(x, sigma)}
    )
    times, x = [0.4, 0.2, 0.0], _rand(2, 1, 4, 4)
    told, sigmas = _ve(x, times) if module == "k_diffusion.external" else (x, torch.tensor(times))
    found = k_diffusion.sampler("heun")(guided(), told, sigmas, disable=True)
    expected = ps.sample(MIXTURE, ps.get_scheduler("heun", times), x=x.numpy())
    assert found.numpy() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: k_diffusion.sampler("unipk"), "unknown scheduler 'unipk'"),
        (lambda: k_diffusion.sampler("unipc", space="edm"), "unknown space 'edm': known are flow, ve"),
        (lambda: k_diffusion.sampler("unipc", noise=3), "noise=3 is neither"),
        (lambda: k_diffusion.sampler(3), "spec=3 must be a spec"),
        (lambda: _call("heun", [0.9, 0.0], seed="x"), "seed='x' must be a whole number"),
        (lambda: _call("heun", [0.3, 0.9, 0.0]), "times must strictly descend"),
    ],
)
def test_k_diffusion_refuses(make, message):
    with pytest.raises(ps.PidSamplerError, match=message):
        make()


def _call(spec, sigmas, **extra_args):
    return k_diffusion.sampler(spec)(_x0, _rand(1, 1, 2, 2), torch.tensor(sigmas), extra_args=extra_args, disable=True)


def test_a_table_in_a_file_is_read_once(tmp_path):
    path = tmp_path / "learnt.json"
    path.write_text(ps.get_scheduler("heun@pid").table().to_json())
    sampler = k_diffusion.sampler(f"@{path}")
    path.unlink()
    x, sigmas = _rand(1, 1, 4, 4), torch.tensor([0.999, 0.866, 0.634, 0.342, 0.0])
    expected = ps.sample(MIXTURE, "heun@pid", x=x.numpy())
    assert sampler(_mixture_x0, x, sigmas, disable=True).numpy() == pytest.approx(expected, abs=2e-5)
    assert torch.equal(sampler(_mixture_x0, x, sigmas[:1], disable=True), x)  # no step
