"""PyTorch's tensors in a run: a torch module as a network, and rows as PyTorch's operations."""

import numpy as np
import pytest

import pidsampler as ps

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra diffusers")


def _rand(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_torch_operations_agree_with_numpys():
    from pidsampler.interop.tensors import TorchBackend

    x = _rand(2, 3, 4, 4)
    for spec in ("flow-sde@pid", "unipc@karras:5", "heun@karras:4"):
        run = ps.start(spec, x, seed=1, backend=TorchBackend("cpu"))
        for row in run:
            run.step(torch.sin(run.x) * row.at)
        expected = ps.sample(lambda x, t: np.sin(x) * t, spec, x=x.numpy(), seed=1)
        assert run.x.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_torch_module_is_a_network(dtype):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x, t):
            assert not torch.is_grad_enabled()
            assert (x.dtype, t.dtype, tuple(t.shape)) == (dtype, torch.float32, (2,))
            return self.conv(x) * t.reshape(-1, 1, 1, 1)

    torch.manual_seed(0)
    network = Network().to(dtype)
    found = ps.sample(network, "heun@uniform:3", shape=(2, 3, 8, 8))
    x = ps.noise.normal(0, 0, (3, 8, 8))[None], ps.noise.normal(1, 0, (3, 8, 8))[None]
    run = ps.start("heun@uniform:3", np.concatenate(x))
    with torch.no_grad():
        for row in run:
            run.step(network(torch.tensor(run.x, dtype=dtype), torch.full((2,), row.at)).float().numpy())
    assert (found == run.x).all()


def test_a_network_reads_the_states_own_memory_and_keeps_no_gradient():
    seen = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x, t):
            seen.append((x.data_ptr(), x.requires_grad))
            made = self.gain * x
            seen.append((made.data_ptr(), made.requires_grad))
            return made

    network, x, out = Network(), np.ones((2, 3, 4, 4), np.float32), np.empty((2, 3, 4, 4), np.float32)
    ps.denoiser.TorchNetwork(network).predict(x, 0.5, out)
    assert seen[0] == (x.ctypes.data, False)
    assert not seen[1][1]
    assert (out == 2.0).all()
    assert network.gain.grad is None


@pytest.mark.parametrize(
    ("state", "weights"), [(np.float32, torch.float64), (np.float32, torch.float16), (np.float16, torch.float32)]
)
def test_a_network_is_asked_in_its_own_type(state, weights):
    network = torch.nn.Linear(4, 4, dtype=weights)
    x, out = np.ones((1, 3, 2, 4), state), np.empty((1, 3, 2, 4), state)
    ps.denoiser.TorchNetwork(lambda x, t: network(x), dtype=weights).predict(x, 0.5, out)
    with torch.no_grad():
        expected = network(torch.from_numpy(x).to(weights)).to(torch.from_numpy(out).dtype).numpy()
    assert (out == expected).all()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x, t: x[:, :1], r"returned shape \(1, 1, 2, 2\), expected a tensor of x's shape \(1, 3, 2, 2\)"),
        (lambda x, t: x.numpy(), "returned ndarray, expected a tensor"),
    ],
)
def test_a_network_that_returns_something_else_is_refused(made, message):
    with pytest.raises(ps.PidSamplerError, match=message):
        ps.sample(ps.denoiser.TorchNetwork(made), "heun@uniform:2", shape=(1, 3, 2, 2))


def test_a_torch_module_may_stand_in_a_study():
    network = ps.study.Network(torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(100))), shape=(3, 4, 4))
    assert len(repr(network)) < 300
