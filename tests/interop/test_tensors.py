"""PyTorch's doors: TableScheduler in a real tiny pipeline, k-diffusion's signature, torch modules."""

import numpy as np
import pytest

import pidsampler as ps
from pidsampler.interop import k_diffusion

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the extra diffusers")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: the extra diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

TEN = ("unipc", "dpmpp-2m", "heun", "rk4", "deis", "er-sde", "sa-solver", "flow-sde", "seeds-2", "stork", "res-2s")


def _rand(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", name="flux")
def _flux():
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), latent_channels=1, norm_num_groups=1)
    others = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = diffusers.FluxPipeline(scheduler=scheduler, vae=vae, transformer=transformer, **others)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _run(pipe, scheduler, steps=5):
    pipe.scheduler = scheduler
    prompt = {"prompt_embeds": _rand(1, 8, 32), "pooled_prompt_embeds": _rand(1, 32), "height": 32, "width": 32}
    generator = torch.Generator().manual_seed(0)
    return pipe(**prompt, num_inference_steps=steps, output_type="latent", generator=generator).images


@pytest.fixture(scope="module", name="euler")
def _euler(flux):
    own = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return own, _run(flux, own)


def _table_scheduler(*args, **kwargs):
    return ps.interop.diffusers.TableScheduler(*args, **kwargs)


def test_flow_ode_is_the_pipelines_euler(flux, euler):
    own, expected = euler
    from_config = ps.interop.diffusers.TableScheduler.from_config
    for scheduler in (_table_scheduler("flow-ode"), from_config(own.config, sampler="flow-ode")):
        assert float((_run(flux, scheduler) - expected).abs().max()) < 2e-6
        assert torch.equal(scheduler.timesteps, own.timesteps)


@pytest.mark.parametrize("sampler", TEN)
def test_others_run(flux, euler, sampler):
    scheduler = _table_scheduler(sampler)
    found = _run(flux, scheduler)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, euler[1])
    assert len(scheduler.timesteps) == len(scheduler.table)


def test_a_list_of_its_own_takes_only_the_number(flux, caplog):
    scheduler = _table_scheduler("unipc@shifted(shift=3)")
    _run(flux, scheduler)
    _run(flux, scheduler)
    assert scheduler.table == ps.get_scheduler("unipc@shifted(shift=3):5").table()
    assert [r.message for r in caplog.records if r.name.startswith("pidsampler")] == [
        "unipc@shifted(shift=3) has a list of its own: the pipeline's sigmas and mu are ignored"
    ]


@pytest.mark.parametrize("sampler", ["unipc@shifted(shift=3)", "heun", ps.FlowSDE([0.9, 0.5, 0.0]).table()])
def test_a_saved_scheduler_comes_back(tmp_path, sampler):
    made = _table_scheduler(sampler, seed=7)
    made.save_pretrained(tmp_path)
    again = ps.interop.diffusers.TableScheduler.from_pretrained(tmp_path)
    for scheduler in (made, again):
        scheduler.set_timesteps(2)
    assert again.table == made.table
    assert again.config["seed"] == 7


def test_a_saved_pipeline_comes_back(flux, tmp_path):
    expected = _run(flux, _table_scheduler("flow-sde", seed=3))
    flux.save_pretrained(tmp_path)
    again = diffusers.FluxPipeline.from_pretrained(
        tmp_path, **dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    )
    again.set_progress_bar_config(disable=True)
    assert float((_run(again, again.scheduler) - expected).abs().max()) < 2e-6  # its weights lie elsewhere in memory


def test_a_config_imports_no_file():
    with pytest.raises(ps.PidSamplerError, match="is no spec or table: pass sampler="):
        ps.interop.diffusers.TableScheduler.from_config({"sampler": "my.py:mine"})


def test_memory_is_shared_and_the_sample_is_only_read(monkeypatch):
    seen, step = [], ps.Run.step
    monkeypatch.setattr(ps.Run, "step", lambda run, m: (seen.append((run.x.ctypes.data, m.ctypes.data)), step(run, m)))
    scheduler = _table_scheduler("flow-ode")
    scheduler.set_timesteps(2)
    x, v = _rand(1, 4, 8), _rand(1, 4, 8, seed=2)
    kept = x.clone()
    (out,) = scheduler.step(v, scheduler.timesteps[0], x, return_dict=False)
    assert seen == [(out.data_ptr(), v.data_ptr())]
    assert torch.equal(x, kept)


def test_the_state_is_float32_and_another_tensor_becomes_it():
    scheduler, x = _table_scheduler("flow-ode"), _rand(1, 4, 8).bfloat16()
    vs = [_rand(1, 4, 8, seed=k).bfloat16() for k in range(3)]

    def run(change):
        scheduler.set_timesteps(3)
        y = x
        for t, v in zip(scheduler.timesteps, vs, strict=True):
            y = change(scheduler.step(v, t, y).prev_sample)
            assert y.dtype == torch.bfloat16
        return y

    dts = [b - a for a, b in zip(scheduler_times(scheduler, 3), scheduler_times(scheduler, 3)[1:], strict=False)]
    exact = x.double() + sum(dt * v.double() for dt, v in zip(dts, vs, strict=True))
    rounded = x
    for dt, v in zip(dts, vs, strict=True):
        rounded = (rounded.float() + dt * v.float()).bfloat16()
    assert torch.equal(run(lambda y: y), exact.float().bfloat16())
    assert torch.equal(run(torch.clone), rounded)
    with torch.inference_mode():
        assert torch.equal(run(lambda y: y), exact.float().bfloat16())


def scheduler_times(scheduler, steps):
    scheduler.set_timesteps(steps)
    return list(scheduler.table.times)


def test_torchs_generator_gives_their_stochastic_sampler():
    own = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    ours = _table_scheduler("flow-sde")
    found = []
    for scheduler in (own, ours):
        scheduler.set_timesteps(4)
        x, generator = _rand(2, 4, 8), torch.Generator().manual_seed(5)
        for t in scheduler.timesteps:
            x = scheduler.step(0.5 * x, t, x, generator=generator).prev_sample
        found.append(x)
    assert float((found[0] - found[1]).abs().max()) < 2e-6


def test_begins_later_and_scales_noise():
    scheduler = _table_scheduler("dpmpp-2m")
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(2)
    t = scheduler.table.times[2]
    clean, noise = _rand(1, 4, 8), _rand(1, 4, 8, seed=2)
    x = scheduler.scale_noise(clean, scheduler.timesteps[2:3], noise)
    assert torch.allclose(x, (1 - t) * clean + t * noise)
    rest = ps.get_scheduler("dpmpp-2m", scheduler.table.times[2:])
    expected = ps.sample(lambda x, t: 0.3 * x, rest, x=x.numpy())
    for t in scheduler.timesteps[2:]:
        x = scheduler.step(0.3 * x, t, x).prev_sample
    assert x.numpy() == pytest.approx(expected, abs=1e-6)
    assert _heun_order() == 2


def _heun_order():
    scheduler = _table_scheduler("heun")
    scheduler.set_timesteps(6)
    return scheduler.order


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _table_scheduler("nothing"), "unknown scheduler 'nothing'"),
        (lambda: _table_scheduler(3), "sampler=3 must be a spec"),
        (lambda: _table_scheduler("heun", noise="pink"), "unknown noise 'pink'"),
        (lambda: _table_scheduler("heun", noise="fixed").set_timesteps(4), None),
        (lambda: _table_scheduler("flow-sde", noise="fixed").set_timesteps(4), "reads the initial noise"),
        (lambda: _table_scheduler("heun").set_timesteps(), "pass one number"),
        (lambda: _table_scheduler("heun@karras:8").set_timesteps(9), "pass num_inference_steps=8"),
        (lambda: _table_scheduler("euler-cfg-pp").set_timesteps(4), "asks for a pair of networks"),
        (lambda: _table_scheduler("heun", invert_sigmas=True), "times must fall"),
        (lambda: _table_scheduler("heun").step(None, 1.0, torch.zeros(1, 2)), "call set_timesteps first"),
    ],
)
def test_refuses(make, message):
    if message is None:
        make()
        return
    with pytest.raises(ps.PidSamplerError, match=message):
        make()


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


def test_torch_operations_agree_with_numpys(monkeypatch):
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


def _blocks(repository, page):
    """The indented examples of a page, each as source."""
    text, blocks = (repository / "docs" / page).read_text(encoding="utf-8"), [[]]
    for line in text.splitlines():
        if line.startswith("    "):
            blocks[-1].append(line[4:])
        elif blocks[-1]:
            blocks.append([])
    return ["\n".join(block) for block in blocks if block]


def test_the_pages_examples_run(flux, repository):
    in_pipeline, on_module = _blocks(repository, "diffusers.md")

    def pipe(_, *, num_inference_steps):
        pipe.images = _run(flux, pipe.scheduler, num_inference_steps)
        return pipe

    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    exec(in_pipeline, scope := {"pipe": pipe})
    assert scope["pipe"].scheduler.table == ps.get_scheduler("unipc@shifted(shift=3):12").table()

    class Module(torch.nn.Module):
        def forward(self, x, t):
            return x * t.reshape(-1, 1, 1, 1)

    exec(on_module, scope := {"ps": ps, "module": Module(), "previews": []})
    assert len(scope["images"]) == 18
    assert len(scope["previews"]) == 60
    (called,) = _blocks(repository, "comfyui.md")
    told = []
    exec(called, scope := {"ps": ps, "model": _x0, "x": _rand(1, 3, 4, 4), "sigmas": SIGMAS, "show": told.append})
    assert len(told) == 3
    assert torch.isfinite(scope["x"]).all()


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
