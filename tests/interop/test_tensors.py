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
