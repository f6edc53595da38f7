"""The node pack for ComfyUI, called as ComfyUI calls it; what stands in for ComfyUI has its source's signatures."""

import ast
import inspect
import json
import os
import sys

import pytest
from paths import PARITY

import pidsampler as ps
from pidsampler.interop import k_diffusion

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra diffusers")
import comfyui_stand_in as comfyui  # noqa: E402

FACTS = json.loads((PARITY / "comfyui.json").read_text())
PID = [0.999, 0.866, 0.634, 0.342, 0.0]


def _names(arguments):
    """The names in a function's arguments as they are written, and how many have a default."""
    found = ast.parse(f"def f({arguments}): 0").body[0].args
    return [argument.arg for argument in found.args], len(found.defaults)


def _sampling(name):
    """A model's sampling of a type of ComfyUI's: the class derives from those that theirs derives from."""

    def of(name):
        return type(name, tuple(map(of, FACTS["its bases"].get(name, []))) or (comfyui.ModelSampling,), {})

    return type("ModelSampling", (of(name),), {})()


def _network(x, sigma):
    """A flow's x0 of the velocity 0.3*x."""
    return x - sigma.reshape(-1, 1, 1, 1) * 0.3 * x


def _noise():
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(name="pack")
def _pack(monkeypatch, tmp_path, load_script):
    for name, module in comfyui.modules(tmp_path).items():
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "pidsampler").mkdir()
    return load_script("examples/comfyui/pidsampler_nodes.py")


@pytest.mark.parametrize(
    ("fact", "function"),
    [
        ("KSAMPLER.__init__", comfyui.KSAMPLER.__init__),
        ("KSAMPLER.sample", comfyui.KSAMPLER.sample),
        ("KSamplerX0Inpaint.__call__", comfyui.KSamplerX0Inpaint.__call__),
        ("get_filename_list", "get_filename_list"),
        ("get_full_path_or_raise", "get_full_path_or_raise"),
    ],
)
def test_the_stand_in_has_comfyuis_signatures(tmp_path, fact, function):
    if isinstance(function, str):
        function = getattr(comfyui.modules(tmp_path)["folder_paths"], function)
    own = inspect.signature(function).parameters.values()
    assert ([p.name for p in own], sum(p.default is not p.empty for p in own)) == _names(FACTS[fact])


def test_what_else_is_relied_on():
    assert FACTS["KSAMPLER.sample calls"] == [
        "self.sampler_function(model_k, noise, sigmas, extra_args=extra_args, callback=k_callback, "
        "disable=disable_pbar, **self.extra_options)"
    ]
    assert FACTS["its callback"] == ["lambda x: callback(x['i'], x['denoised'], x['x'], total_steps)"]
    assert FACTS["where the model's type is"].startswith("isinstance(model.inner_model.inner_model.model_sampling, ")
    assert {"FUNCTION", "INPUT_TYPES", "IS_CHANGED", "NODE_CLASS_MAPPINGS"} < set(FACTS["of a node pack are read"])
    assert FACTS["folder_names_and_paths"] == ["folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}"]
    assert FACTS["a noise sampler"] == "lambda sigma, sigma_next"
    # What theirs may be given, ours may be too, in the same order.
    ours = list(inspect.signature(k_diffusion.KSampler.__call__).parameters)[1:]
    theirs, _ = _names(FACTS["sample_euler_ancestral"])
    assert ours == [name for name in theirs if name not in ("eta", "s_noise")]


@pytest.mark.parametrize("name", FACTS["those of models"])
def test_a_models_type_tells_its_space(pack, name):
    sampler = comfyui.execute(pack.PidSampler, spec="flow-ode")["SAMPLER"]
    kind, sigmas, seen = _sampling(name), torch.tensor([0.8, 0.5, 0.0]), []

    def network(x, sigma):
        seen.append(x)
        return torch.zeros_like(x)

    found = sampler.sample(comfyui.guided(kind, network), sigmas, {"seed": 1}, None, _noise(), disable_pbar=True)
    assert kind.is_flow() is (name == "CONST")
    # To x0 = 0 on a line, which both spaces share: the noise at sigma = 0.5 has 5/8 of its size at 0.8.
    assert torch.allclose(seen[1], seen[0] * 0.625, atol=1e-6)
    assert float(found.abs().max()) < 1e-6


def test_samplers_and_lists(pack, tmp_path):
    table = ps.get_scheduler("heun@pid").table()
    (tmp_path / "pidsampler" / "learnt.json").write_text(table.to_json())
    sampler = comfyui.execute(pack.PidSampler, spec="heun")["SAMPLER"]
    sigmas = comfyui.execute(pack.PidSigmas, list="pid", steps="4", space="flow")["SIGMAS"]
    assert (sigmas.dtype, sigmas.tolist()) == (torch.float32, pytest.approx(PID, abs=1e-7))
    from_file = comfyui.execute(pack.PidTableFile, table="learnt.json", space="flow")
    from_text = comfyui.execute(pack.PidTableText, table=table.to_json(), space="flow")
    noise, told, model = _noise(), [], comfyui.guided(_sampling("CONST"), _network)
    expected = ps.sample(lambda x, t: 0.3 * x, table, x=0.999 * noise.numpy())
    for made, own in ((sampler, sigmas), from_file.values(), from_text.values()):
        found = made.sample(model, own, {"seed": 1}, lambda *a: told.append(a), noise, disable_pbar=True)
        assert found.numpy() == pytest.approx(expected, abs=1e-6)
    assert [(step, total) for step, _, _, total in told] == [(step, 4) for step in range(4)] * 3
    assert all(torch.equal(x0, _network(x, torch.full((2,), PID[step]))) for step, x0, x, _ in told[:4])


def test_a_ve_model_takes_the_same_table(pack):
    made = comfyui.execute(pack.PidTableText, table=ps.get_scheduler("unipc@pid").table().to_json(), space="ve")
    assert made["SIGMAS"].tolist() == pytest.approx([999.0, 0.866 / 0.134, 0.634 / 0.366, 0.342 / 0.658, 0.0], rel=1e-5)

    def network(x, sigma):  # images of N(0, 1)
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    found = made["SAMPLER"].sample(
        comfyui.guided(_sampling("EPS"), network), made["SIGMAS"], {"seed": 0}, None, _noise(), disable_pbar=True
    )
    x = (1 + 999.0**2) ** 0.5 / 1000 * _noise().double().numpy()
    expected = ps.sample(ps.denoiser.Gaussian(0.0, 1.0), "unipc@pid", x=x)
    assert found.numpy() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ps.PidSamplerError, match=r"goes from t=0\.999 to 0, and the sigmas from t=0\.499"):
        made["SAMPLER"].sample(
            comfyui.guided(_sampling("EPS"), network), torch.tensor(PID), {}, None, _noise(), disable_pbar=True
        )


def test_noise_is_the_seeds(pack):
    sampler = comfyui.execute(pack.PidSampler, spec="flow-sde")["SAMPLER"]
    model, sigmas = comfyui.guided(_sampling("CONST"), _network), torch.tensor(PID)
    last, first = (
        sampler.sample(model, sigmas, {"seed": seed}, None, _noise(), disable_pbar=True) for seed in (2**64 - 1, 0)
    )
    alone = sampler.sample(model, sigmas, {"seed": 0}, None, _noise()[1:], disable_pbar=True)
    assert torch.equal(last[1:], alone)  # image b has seed + b, and after the last seed comes 0
    assert not torch.equal(last, first)


def test_a_changed_file_is_read_again(pack, tmp_path):
    path = tmp_path / "pidsampler" / "learnt.json"
    path.write_text(ps.get_scheduler("flow-ode@pid").table().to_json())
    assert pack.PidTableFile.INPUT_TYPES()["required"]["table"] == (["learnt.json"],)
    before = pack.PidTableFile.IS_CHANGED(table="learnt.json", space="flow")
    assert pack.PidTableFile.IS_CHANGED(table="learnt.json", space="flow") == before
    os.utime(path, ns=(1, 1))
    assert pack.PidTableFile.IS_CHANGED(table="learnt.json", space="flow") != before


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("PidSampler", {"spec": "my.py:mine"}, "'my.py:mine' names a file: put a table into models/pidsampler"),
        ("PidSampler", {"spec": "@table.json"}, "names a file"),
        ("PidSampler", {"spec": "unipk"}, "unknown scheduler 'unipk': did you mean"),
        ("PidSampler", {"spec": ""}, "cannot read '': expected NAME"),
        ("PidSigmas", {"list": "my.py:mine", "steps": 4, "space": "flow"}, "names a file"),
        ("PidSigmas", {"list": "karas", "steps": 4, "space": "flow"}, "unknown timestep list 'karas'"),
        ("PidSigmas", {"list": "uniform", "steps": 4, "space": "ve"}, "begins at time 1, which is no sigma"),
        ("PidTableText", {"table": "{", "space": "flow"}, "not a table in JSON"),
    ],
)
def test_refuses(pack, node, inputs, message):
    with pytest.raises(ps.PidSamplerError, match=message):
        comfyui.execute(pack.NODE_CLASS_MAPPINGS[node], **inputs)


def test_each_node_has_a_name_to_show(pack):
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
