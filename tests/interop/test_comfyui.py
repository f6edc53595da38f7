"""The node pack for ComfyUI."""

import pytest

import pidsampler as ps

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra diffusers")


def _rand(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _x0(x, sigma, **_):
    """A flow's x0 of the velocity 0.3*x."""
    return x - sigma.reshape(-1, 1, 1, 1) * 0.3 * x


@pytest.fixture(name="nodes")
def _nodes(monkeypatch, load_script, tmp_path):
    """The node pack with stand-ins of what it reads of ComfyUI (commit a125cd84): KSAMPLER and folder_paths."""
    from types import ModuleType, SimpleNamespace

    class KSAMPLER:
        def __init__(self, sampler_function, extra_options={}, inpaint_options={}):  # noqa: B006
            self.sampler_function = sampler_function

    samplers, paths = ModuleType("comfy.samplers"), ModuleType("folder_paths")
    samplers.KSAMPLER = KSAMPLER
    paths.models_dir, paths.folder_names_and_paths = str(tmp_path), {}
    paths.get_filename_list = lambda name: ["learnt.json"]
    paths.get_full_path_or_raise = lambda name, file: str(tmp_path / file)
    for name, module in {
        "comfy": SimpleNamespace(samplers=samplers), "comfy.samplers": samplers, "folder_paths": paths,
    }.items():  # fmt: skip
        monkeypatch.setitem(__import__("sys").modules, name, module)
    return load_script("examples/comfyui/pidsampler_nodes.py").NODE_CLASS_MAPPINGS


def _called(node, **inputs):
    assert set(inputs) == set(node.INPUT_TYPES()["required"])
    found = getattr(node(), node.FUNCTION)(**inputs)
    assert len(found) == len(node.RETURN_TYPES)
    return found


def test_comfyuis_nodes(nodes, tmp_path):
    (sigmas,) = _called(nodes["PidSigmas"], list="pid", steps=4, space="flow")
    assert sigmas.dtype == torch.float32
    assert sigmas.tolist() == pytest.approx([0.999, 0.866, 0.634, 0.342, 0.0], abs=1e-7)
    x = _rand(1, 3, 4, 4)
    (sampler,) = _called(nodes["PidSampler"], spec="flow-ode", space="of the model")
    table = ps.get_scheduler("flow-ode@pid").table()
    (tmp_path / "learnt.json").write_text(table.to_json())
    found = [(sampler, sigmas), _called(nodes["PidTableFile"], table="learnt.json", space="flow")]
    found.append(_called(nodes["PidTableText"], table=table.to_json(), space="flow"))
    expected = ps.sample(lambda x, t: 0.3 * x, table, x=x.numpy())
    for made, own in found:
        out = made.sampler_function(_x0, x, own, extra_args={}, callback=None, disable=True)
        assert out.numpy() == pytest.approx(expected, abs=1e-6)
    for spec in ("my.py:mine", "@table.json"):
        with pytest.raises(ps.PidSamplerError, match="names a file"):
            _called(nodes["PidSampler"], spec=spec, space="flow")
    with pytest.raises(ps.PidSamplerError, match="names a file"):
        _called(nodes["PidSigmas"], list="my.py:mine", steps=4, space="flow")
