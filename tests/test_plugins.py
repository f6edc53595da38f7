"""What joins from outside: by a decorator in this process, by an entry point of another package, by a file."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from plugins import install

from pidsampler import FlowODE, PidSamplerError, StepTable, get_scheduler, list_schedulers, noise, sample, timesteps
from pidsampler.cli import main
from pidsampler.denoiser import GaussianMixture
from pidsampler.noise import NOISES
from pidsampler.plugins import Registry, load_from_file, split_file
from pidsampler.schedulers import SchedulerInfo, TimesScheduler
from pidsampler.schedulers.base import euler, row
from pidsampler.schedulers.registry import LISTS, SCHEDULERS, get_timesteps
from pidsampler.study import Study
from pidsampler.study.measures import MEASURES, Sample, get_measure, measure

LAW = GaussianMixture([-0.6, 0.5], [0.1, 0.2], [1, 2])
SHAPE = (2, 3, 5, 7)


@pytest.fixture(name="joined")
def _joined():
    """Register in a registry, and take away afterwards."""
    done = []

    def join(registry, **options):
        def decorate(thing):
            registry.register(thing, **options)
            done.append((registry, list(registry)[-1]))
            return thing

        return decorate

    yield join
    for registry, name in done:
        registry.unregister(name)


def test_a_scheduler_is_one_class(joined):
    @joined(SCHEDULERS)
    class Mine(TimesScheduler):
        info = SchedulerInfo(
            "mine", 1, model_calls_per_step=1, stochastic=False, source="a test", aliases=("my-euler", "Mine")
        )

        def table(self):
            return StepTable(row(t, s, update=euler(t, s)) for t, s in self.steps)

    expected = sample(LAW, "flow-ode@karras:5", shape=SHAPE, seed=3)
    for name in ("mine", "my-euler", "Mine"):
        assert_array_equal(sample(LAW, f"{name}@karras:5", shape=SHAPE, seed=3), expected)
        assert str(get_scheduler(f"{name}@karras:5")) == "mine@karras:5"
    assert list_schedulers()[-1] is Mine.info


def test_a_timestep_list_is_one_function(joined):
    @joined(LISTS)
    def halving(steps, ratio=0.5):
        return [*(ratio**k for k in range(steps)), 0.0]

    assert get_timesteps("halving", 3).tolist() == [1.0, 0.5, 0.25, 0.0]
    made = get_scheduler("heun@halving(ratio=0.25):3")
    assert made.timesteps.tolist() == [1.0, 0.25, 0.0625, 0.0]
    assert str(made) == "heun@halving(ratio=0.25):3"
    with pytest.raises(PidSamplerError, match=r"halving has no option 'rato': did you mean 'ratio'\? it takes ratio"):
        get_scheduler("heun@halving(rato=0.25):3")
    with pytest.raises(PidSamplerError, match="'halving' needs a number of steps, such as halving:8"):
        get_scheduler("heun@halving")
    with pytest.raises(PidSamplerError, match="halving failed: TypeError"):
        get_scheduler("heun@halving(ratio=x):3")


def test_a_noise_is_one_function(joined):
    @joined(NOISES)
    def mirrored(table):
        return table, lambda seed, draw, shape: -noise.normal(seed, draw, shape)

    @joined(NOISES, name="again")
    def twice_the_same(table):
        return noise.fixed(table)

    x = np.stack([noise.normal(s, 0, SHAPE[1:]) for s in (3, 4)])
    found = sample(LAW, "flow-ode", shape=SHAPE, seed=3, noise="mirrored")
    assert_array_equal(found, sample(LAW, "flow-ode", x=-x))
    found = sample(LAW, "flow-sde", shape=SHAPE, seed=3, noise="again")
    assert_array_equal(found, sample(LAW, "flow-sde", shape=SHAPE, seed=3, noise="fixed"))

    @joined(NOISES)
    def broken(table):
        return 3

    with pytest.raises(PidSamplerError, match="noise 'broken' made 3 of a table, expected a StepTable"):
        sample(LAW, "flow-sde", shape=SHAPE, noise="broken")


def test_a_measure_is_one_function(joined):
    @joined(MEASURES)
    @measure(unit="", better="", source="the largest", needs=())
    def largest_value(sample):
        return sample.x.max()

    assert get_measure("largest-value")(Sample(np.array([1.0, 3.0]))) == 3.0
    assert list(MEASURES)[-1] == "largest-value"


def test_what_was_registered_can_be_taken_away_and_made_again():
    registry = Registry("thing", "pidsampler.no_such_group")

    @registry.register(aliases=("other",))
    def mine():
        return 1

    first = registry.find("other")
    assert first is registry["mine"] is mine

    def defined():
        def mine():
            return 2

        return mine

    again = defined()
    with pytest.raises(PidSamplerError, match="there is a thing 'mine' already"):
        registry.register(again)
    with pytest.raises(PidSamplerError, match="there is a thing 'other' already"):
        registry.register(again, name="new", aliases=("other",))
    again.__qualname__ = mine.__qualname__  # as where a notebook's cell runs twice
    registry.register(again)
    assert (registry["mine"], len(registry), repr(registry)) == (again, 1, "<Registry of thing: mine>")
    registry.unregister("mine")
    assert not registry
    for name in ("mine", "other"):
        with pytest.raises(PidSamplerError, match=f"unknown thing '{name}'"):
            registry.find(name)
    with pytest.raises(PidSamplerError, match="unknown thing 'mine'"):
        registry.unregister("mine")


@pytest.mark.parametrize(
    ("registry", "thing", "message"),
    [
        (SCHEDULERS, FlowODE([1.0, 0.0]).table, "has no SchedulerInfo of that name as info"),
        (SCHEDULERS, 3, "has no SchedulerInfo of that name as info"),
        (LISTS, 3, "is no function"),
        (NOISES, "fixed", "is no function"),
        (MEASURES, len, "decorate it by pidsampler.study.measures.measure"),
    ],
)
def test_only_things_of_a_kind_are_registered(registry, thing, message):
    before = dict(registry)
    with pytest.raises(PidSamplerError, match=message):
        registry.register(thing)
    assert dict(registry) == before


def test_a_name_is_taken_once_and_is_a_text():
    with pytest.raises(PidSamplerError, match="there is a timestep list 'karras' already"):
        LISTS.register(lambda steps: [1.0, 0.0], name="karras")
    with pytest.raises(PidSamplerError, match="name=3 must be a text"):
        LISTS.register(timesteps.uniform, name=3)
    with pytest.raises(PidSamplerError, match="timestep list=3 must be a text"):
        get_timesteps(3, 4)


PLUGIN = """
import numpy as np
from pidsampler import FlowODE, noise
from pidsampler.schedulers import SchedulerInfo
from pidsampler.study.measures import measure

class Mine(FlowODE):
    info = SchedulerInfo("mine", 1, model_calls_per_step=1, stochastic=False, source="a test")

def halving(steps):
    return [*(0.5**k for k in range(steps)), 0.0]

def same(table):
    return noise.fixed(table)

def unchanged(sampler):
    return sampler.table()

@measure(unit="", better="", source="the largest", needs=())
def largest(sample):
    return sample.x.max()

def plain(sample):
    return 1.0
"""


def test_another_package_adds_to_each_registry(tmp_path, monkeypatch):
    groups = {
        "schedulers": {"mine": "Mine"},
        "timesteps": {"halving": "halving", "karras": "plain"},  # a name of ours stays ours
        "noises": {"same": "same"},
        "measures": {"largest": "largest"},
    }
    install(tmp_path, monkeypatch, PLUGIN, **groups)
    assert get_scheduler("mine@halving:2").table() == FlowODE([1.0, 0.5, 0.0]).table()
    assert str(get_scheduler("mine@halving:2")) == "mine@halving:2"
    assert get_timesteps("karras", 4).tolist() == timesteps.karras(4).tolist()
    found = sample(LAW, "flow-sde", shape=SHAPE, noise="same")
    assert_array_equal(found, sample(LAW, "flow-sde", shape=SHAPE, noise="fixed"))
    assert get_measure("largest")(Sample(np.array([1.0, 3.0]))) == 3.0
    with pytest.raises(PidSamplerError, match="unknown timestep list 'halfing': did you mean 'halving'"):
        get_timesteps("halfing", 4)


def test_the_commands_and_studies_find_another_package(tmp_path, monkeypatch, capsys):
    groups = {"schedulers": {"mine": "Mine"}, "timesteps": {"halving": "halving"}, "wrappers": {"plain": "unchanged"}}
    install(tmp_path, monkeypatch, PLUGIN, **groups, noises={"same": "same"}, measures={"largest": "largest"})
    monkeypatch.chdir(tmp_path)
    assert main(["table", "mine.plain@halving:2", "--noise", "same", "--json"]) == 0
    assert StepTable.from_json(capsys.readouterr().out) == FlowODE([1.0, 0.5, 0.0]).table()
    for command, name in (("schedulers", "mine"), ("timesteps", "halving")):
        assert main([command]) == main([command, name]) == 0
        assert f"\n{name}: " in capsys.readouterr().out
    study = Study(
        preset={"model": "law", "scheduler": "mine@halving:2", "noise": "same", "seeds": 2},
        flows={"law": {"means": [0], "stds": [1]}},
        measures=["largest"],
    )
    assert not study.estimate("out").problems
    assert study.table(study.preset_cell)[0] == FlowODE([1.0, 0.5, 0.0]).table()


@pytest.mark.parametrize(
    ("group", "use", "value", "message"),
    [
        (
            "timesteps",
            lambda: get_timesteps("bad", 4),
            "nothing",
            r"list 'bad' \(plugin_of_a_test:nothing\) cannot be l",
        ),
        ("timesteps", lambda: get_timesteps("bad", 4), "__name__", r"list 'bad' \(.*\) is no function"),
        (
            "noises",
            lambda: noise.with_noise(FlowODE([1, 0]).table(), "bad"),
            "__name__",
            "noise 'bad' .* is no function",
        ),
        (
            "measures",
            lambda: get_measure("bad"),
            "plain",
            "measure 'bad' .* is no measure of that name: decorate it by",
        ),
        ("measures", lambda: get_measure("bad"), "largest", "measure 'bad' .* is no measure of that name"),
    ],
)
def test_a_broken_package_is_named(tmp_path, monkeypatch, group, use, value, message):
    install(tmp_path, monkeypatch, PLUGIN, **{group: {"bad": value}})
    with pytest.raises(PidSamplerError, match=message):
        use()


def test_the_three_nearest_names_are_told():
    with pytest.raises(
        PidSamplerError, match=r"'dpmp-2': did you mean '[^']+', '[^']+' or '[^']+'\? see list_schedulers\(\)$"
    ):
        get_scheduler("dpmp-2")


def test_a_file_and_a_name():
    assert split_file("a/b.py:c") == ("a/b.py", "c")
    assert split_file(r"C:\b.py:c:8") == (r"C:\b.py", "c:8")
    assert split_file("karras:8") is None
    with pytest.raises(PidSamplerError, match=r"cannot read '.*x.py', to take a thing from"):
        load_from_file("no/x.py", "f", kind="thing")
    with pytest.raises(PidSamplerError, match="cannot read"):
        load_from_file("\0.py", "f", kind="thing")
