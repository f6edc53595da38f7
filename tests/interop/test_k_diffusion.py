"""A sampler with k-diffusion's signature, over flows and variance-exploding models."""

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


@pytest.mark.parametrize("spec", ["flow-ode", "heun", "unipc", "heun.detail(amount=0.3)", "flow-sde"])
def test_k_diffusion_is_sample(spec):
    x, told = _rand(2, 3, 4, 4), []
    found = k_diffusion.sampler(spec)(
        _x0,
        x,
        SIGMAS,
        extra_args={"seed": 3},
        callback=lambda d: told.append((d["i"], float(d["sigma"]))),
        disable=True,
    )
    scheduler = ps.get_scheduler(spec, SIGMAS.double().numpy())
    expected = ps.sample(lambda x, t: 0.3 * x, scheduler, x=x.numpy(), seed=3)
    if "detail" not in spec:
        assert [i for i, _ in told] == [0, 1, 2]
        assert [s for _, s in told] == pytest.approx([0.9, 0.6, 0.3])
    assert found.numpy() == pytest.approx(expected, abs=2e-6)


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
