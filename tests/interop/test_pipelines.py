"""TableScheduler in real tiny pipelines of diffusers, offline."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

import pidsampler as ps

tiny_pipelines = pytest.importorskip("tiny_pipelines", reason="diffusers is not installed: the extra diffusers")
import diffusers  # noqa: E402
import torch  # noqa: E402
from pages import python_blocks  # noqa: E402
from tiny_pipelines import rand  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

NAMES = list(tiny_pipelines.PIPELINES)
OTHERS = ("unipc", "dpmpp-2m", "heun", "rk4", "deis", "er-sde", "sa-solver", "flow-sde", "seeds-2", "stork", "res-2s")


def _scheduler(*args, **kwargs):
    return ps.interop.diffusers.TableScheduler(*args, **kwargs)


def _like(own, sampler):
    return ps.interop.diffusers.TableScheduler.from_config(own.config, sampler=sampler)


@pytest.fixture(scope="module", name="tinies")
def _tinies():
    """Each pipeline, its own scheduler and what comes out with that."""
    made = {}
    for name in NAMES:
        tiny = tiny_pipelines.make(name)
        own = tiny.pipe.scheduler
        made[name] = SimpleNamespace(run=tiny.run, pipe=tiny.pipe, own=own, expected=tiny.run(own))
    return made


@pytest.mark.parametrize("name", NAMES)
def test_flow_ode_is_the_pipelines_euler(tinies, name):
    tiny = tinies[name]
    scheduler = _like(tiny.own, "flow-ode")
    assert tiny.expected.dtype == torch.float32
    assert float((tiny.run(scheduler) - tiny.expected).abs().max()) < 2e-6
    assert torch.equal(scheduler.timesteps, tiny.own.timesteps)


def test_without_a_config_the_pipelines_mu_shifts(tinies):
    flux = tinies["FLUX"]
    assert float((flux.run(_scheduler("flow-ode")) - flux.expected).abs().max()) < 2e-6


@pytest.mark.parametrize("sampler", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_others_run(tinies, name, sampler):
    tiny = tinies[name]
    scheduler, inner = _like(tiny.own, sampler), sampler in ("heun", "rk4", "stork")
    if inner and name == "FLUX of an image":
        with pytest.raises(ps.PidSamplerError, match=rf"{sampler} cannot begin at timestep \d, .* within a step"):
            tiny.run(scheduler)
        scheduler, options = _like(tiny.own, sampler), {"strength": 1.0}
    else:
        options = {}
    found = tiny.run(scheduler, **options)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, tiny.expected)
    assert len(scheduler.timesteps) == len(scheduler.table)
    assert scheduler.step_index == len(scheduler.table)


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_list_of_its_own_takes_only_the_number(tinies, name, caplog):
    scheduler = _like(tinies[name].own, "unipc@shifted(shift=3)")
    tinies[name].run(scheduler)
    tinies[name].run(scheduler, num_inference_steps=4)
    assert scheduler.table == ps.get_scheduler("unipc@shifted(shift=3):4").table()
    says = "unipc@shifted(shift=3) has a list of its own: the pipeline's sigmas and mu are ignored"
    told = [record.message for record in caplog.records if record.name.startswith("pidsampler")]
    assert told == ([] if name == "SD3" else [says])  # which passes neither


@pytest.mark.parametrize("sampler", ["unipc@shifted(shift=3)", "heun", ps.FlowSDE([0.9, 0.5, 0.0]).table()])
def test_a_saved_scheduler_comes_back(tmp_path, sampler):
    made = _scheduler(sampler, seed=7)
    made.save_pretrained(tmp_path)
    again = ps.interop.diffusers.TableScheduler.from_pretrained(tmp_path)
    for scheduler in (made, again):
        scheduler.set_timesteps(2)
    assert again.table == made.table
    assert again.config["seed"] == 7


def test_a_config_keeps_the_others_values():
    # Their default is not to shift by mu, ours is to shift where one is passed.
    made = _like(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "flow-ode")
    made.set_timesteps(sigmas=[1.0, 0.5], mu=2.0)
    assert made.table.times == pytest.approx([1.0, 0.75, 0.0])
    again = _like(made, "unipc")
    again.set_timesteps(sigmas=[1.0, 0.5], mu=2.0)
    assert again.table.times == made.table.times


def test_a_saved_pipeline_comes_back(tinies, tmp_path):
    flux = tinies["FLUX"]
    expected = flux.run(_scheduler("flow-sde", seed=3))
    flux.pipe.save_pretrained(tmp_path)
    none = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    again = diffusers.FluxPipeline.from_pretrained(tmp_path, **none)
    again.set_progress_bar_config(disable=True)
    inputs = tiny_pipelines.make("FLUX").inputs
    found = tiny_pipelines.Tiny(again, inputs).run(again.scheduler)
    assert float((found - expected).abs().max()) < 2e-6  # its weights lie elsewhere in memory


def test_a_config_imports_no_file():
    with pytest.raises(ps.PidSamplerError, match="is no spec or table: pass sampler="):
        ps.interop.diffusers.TableScheduler.from_config({"sampler": "my.py:mine"})


def test_memory_is_shared_and_the_sample_is_only_read(monkeypatch):
    seen, step = [], ps.Run.step
    monkeypatch.setattr(ps.Run, "step", lambda run, m: (seen.append((run.x.ctypes.data, m.ctypes.data)), step(run, m)))
    scheduler = _scheduler("flow-ode")
    scheduler.set_timesteps(2)
    x, v = rand(1, 4, 8), rand(1, 4, 8, seed=2)
    kept = x.clone()
    (out,) = scheduler.step(v, scheduler.timesteps[0], x, return_dict=False)
    assert seen == [(out.data_ptr(), v.data_ptr())]
    assert torch.equal(x, kept)
    half = v.bfloat16()
    scheduler.step(half, scheduler.timesteps[1], out)
    assert seen[1][1] == half.data_ptr()


def test_the_state_is_float32_and_another_tensor_becomes_it():
    scheduler, x = _scheduler("flow-ode"), rand(1, 4, 8).bfloat16()
    vs = [rand(1, 4, 8, seed=k).bfloat16() for k in range(3)]

    def run(change):
        scheduler.set_timesteps(3)
        y = x
        for t, v in zip(scheduler.timesteps, vs, strict=True):
            y = change(scheduler.step(v, t, y).prev_sample)
            assert y.dtype == torch.bfloat16
        return y

    scheduler.set_timesteps(3)
    times = scheduler.table.times
    dts = [b - a for a, b in pairwise(times)]
    exact = x.double() + sum(dt * v.double() for dt, v in zip(dts, vs, strict=True))
    rounded = x
    for dt, v in zip(dts, vs, strict=True):
        rounded = (rounded.float() + dt * v.float()).bfloat16()
    assert torch.equal(run(lambda y: y), exact.float().bfloat16())
    assert torch.equal(run(torch.clone), rounded)
    with torch.inference_mode():
        assert torch.equal(run(lambda y: y), exact.float().bfloat16())


def test_a_model_in_bfloat16(tinies):
    flux = tiny_pipelines.make("FLUX")
    flux.pipe.to(torch.bfloat16)
    inputs = {name: value.bfloat16() for name, value in flux.inputs.items()}
    for sampler in ("flow-ode", "unipc", "heun"):
        found = flux._replace(inputs=inputs).run(_like(tinies["FLUX"].own, sampler))
        assert found.dtype == torch.bfloat16
        expected = tinies["FLUX"].run(_like(tinies["FLUX"].own, sampler))
        # The velocity's own rounding, 2^-9 of its size, is what is left.
        assert float((found.float() - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_torchs_generator_gives_their_stochastic_sampler():
    own = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    ours = _scheduler("flow-sde")
    found = []
    for scheduler in (own, ours):
        scheduler.set_timesteps(4)
        x, generator = rand(2, 4, 8), torch.Generator().manual_seed(5)
        for t in scheduler.timesteps:
            x = scheduler.step(0.5 * x, t, x, generator=generator).prev_sample
        found.append(x)
    assert float((found[0] - found[1]).abs().max()) < 2e-6


def test_begins_later_and_scales_noise():
    scheduler = _scheduler("dpmpp-2m")
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(2)
    t = scheduler.table.times[2]
    clean, noise = rand(1, 4, 8), rand(1, 4, 8, seed=2)
    x = scheduler.scale_noise(clean, scheduler.timesteps[2:3], noise)
    assert torch.allclose(x, (1 - t) * clean + t * noise)
    rest = ps.get_scheduler("dpmpp-2m", scheduler.table.times[2:])
    expected = ps.sample(lambda x, t: 0.3 * x, rest, x=x.numpy())
    for t in scheduler.timesteps[2:]:
        x = scheduler.step(0.3 * x, t, x).prev_sample
    assert x.numpy() == pytest.approx(expected, abs=1e-6)


def test_order_is_how_many_calls_a_step_takes():
    scheduler = _scheduler("heun")
    scheduler.set_timesteps(6)
    assert scheduler.order == 2
    scheduler.set_timesteps(sigmas=[1.0, 0.5])  # who passes these counts entries of `timesteps`
    assert scheduler.order == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _scheduler("nothing"), "unknown scheduler 'nothing'"),
        (lambda: _scheduler(3), "sampler=3 must be a spec"),
        (lambda: _scheduler("heun", noise="pink"), "unknown noise 'pink'"),
        (lambda: _scheduler("flow-sde", noise="fixed").set_timesteps(4), "reads the initial noise"),
        (lambda: _scheduler("heun").set_timesteps(), "pass one number"),
        (lambda: _scheduler("heun@karras:8").set_timesteps(9), "pass num_inference_steps=8"),
        (lambda: _scheduler("euler-cfg-pp").set_timesteps(4), "asks for a pair of networks"),
        (lambda: _scheduler("heun", invert_sigmas=True), "times must fall"),
        (lambda: _scheduler("heun").step(None, 1.0, torch.zeros(1, 2)), "call set_timesteps first"),
        (lambda: _begun("unipc", 9), "begin_index=9 is beyond the 4 timesteps"),
        (lambda: _begun("unipc", None).step(rand(1, 4), 123.0, rand(1, 4)), r"123.0 is none of the timesteps"),
        (lambda: _scheduler("unipc", use_dynamic_shifting=True).set_timesteps(4), "makes no times of this config"),
        (lambda: _scheduler({"format": object()}), "is no table: Object of type object"),
        (lambda: _like(diffusers.UniPCMultistepScheduler(), "unipc"), "the config has no shift, expected a flow-match"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ps.PidSamplerError, match=message):
        make()


def _begun(sampler, index):
    scheduler = _scheduler(sampler)
    scheduler.set_timesteps(4)
    if index is not None:
        scheduler.set_begin_index(index)
        scheduler.step(rand(1, 4), scheduler.timesteps[0], rand(1, 4))
    return scheduler


def test_in_training_noise_is_of_the_timesteps():
    scheduler = _begun("unipc", None)
    clean, noise = rand(2, 4), rand(2, 4, seed=2)
    x = scheduler.scale_noise(clean, scheduler.timesteps[[1, 3]], noise)
    t = torch.tensor(scheduler.table.times)[[1, 3]].reshape(2, 1)
    assert torch.allclose(x, (1 - t) * clean + t * noise)


def test_a_pipelines_list_may_end_in_zero():
    scheduler = _scheduler("flow-ode")
    scheduler.set_timesteps(sigmas=[1.0, 0.5, 0.0])
    assert scheduler.table.times == (1.0, 0.5, 0.0)


@pytest.mark.parametrize("noise", ["independent", "brownian", "torch", "generator"])
def test_noise_is_ours_by_name_or_torchs_default(noise):
    def run():
        scheduler = _scheduler("flow-sde", noise=noise, seed=9)
        scheduler.set_timesteps(4)
        x = rand(2, 1, 4, 4)
        torch.manual_seed(1)
        for t in scheduler.timesteps:
            x = scheduler.step(0.3 * x, t, x).prev_sample
        return x, scheduler.table

    found, table = run()
    assert torch.equal(run()[0], found)
    if noise != "generator":
        own = ps.get_scheduler("flow-sde", table.times)
        expected = ps.sample(lambda x, t: 0.3 * x, own, x=rand(2, 1, 4, 4).numpy(), seed=9, noise=noise)
        assert found.numpy() == pytest.approx(expected, abs=1e-6)


def test_samplers_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text("import pidsampler as ps\ndef mine(t):\n    return ps.schedulers.Heun(t).table()")
    (tmp_path / "table.json").write_text(ps.get_scheduler("heun@uniform:3").table().to_json())
    heun = _scheduler("heun")
    heun.set_timesteps(3)
    for sampler in (ps.schedulers.Heun, f"{tmp_path / 'mine.py'}:mine"):
        made = _scheduler(sampler)
        made.set_timesteps(3)
        assert made.table == heun.table
        assert made.config["sampler"] is None  # a config holds no file and no class
    made = _scheduler(f"@{tmp_path / 'table.json'}")
    made.set_timesteps(5)
    assert made.table == ps.get_scheduler("heun@uniform:3").table()


def test_noise_of_a_sampler_that_draws_none_may_be_any():
    _scheduler("heun", noise="fixed").set_timesteps(4)


def test_the_pages_examples_run_in_five_lines(tinies):
    in_pipeline, on_module = python_blocks("diffusers")
    assert max(len(block.splitlines()) for block in (in_pipeline, on_module)) <= 5
    flux = tinies["FLUX"]

    def pipe(_, *, num_inference_steps):
        return SimpleNamespace(images=flux.run(pipe.scheduler, num_inference_steps=num_inference_steps))

    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    exec(in_pipeline, scope := {"pipe": pipe})
    assert scope["pipe"].scheduler.table == ps.get_scheduler("unipc@shifted(shift=3):12").table()

    class Module(torch.nn.Module):
        def forward(self, x, t):
            return x * t.reshape(-1, 1, 1, 1)

    exec(on_module, scope := {"ps": ps, "module": Module()})
    assert len(scope["images"]) == 18
    assert len(scope["previews"]) == 60
