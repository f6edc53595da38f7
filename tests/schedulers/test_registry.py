"""Names and specs: what they make, how they print back, and what is said of wrong ones."""

import numpy as np
import pytest

from pidsampler import FlowODE, FlowSDE, PidSamplerError, get_scheduler, list_schedulers, sample, timesteps
from pidsampler.io.files import sha256
from pidsampler.schedulers import Heun, TimesScheduler
from pidsampler.schedulers.registry import as_times, get_timesteps
from pidsampler.schedulers.spec import Spec


def test_specs():
    assert get_scheduler("flow-sde").table() == FlowSDE(timesteps.pid()).table()
    assert get_scheduler("flow-ode@uniform:8").table() == FlowODE(timesteps.uniform(8)).table()
    assert get_scheduler("flow-sde@pid:2", eta=0.5).table() == FlowSDE([0.999, 0.634, 0], eta=0.5).table()
    assert get_scheduler("flow-sde", timesteps=[0.7, 0]).table() == FlowSDE([0.7, 0]).table()
    assert get_scheduler("flow-sde(eta=0.5)").table() == FlowSDE(timesteps.pid(), eta=0.5).table()
    made = get_scheduler("unipc(order=3, b='bh1')@karras(rho=5, t_min=0.01):7")
    assert made.options == {"order": 3, "b": "bh1"}
    assert made.timesteps.tolist() == timesteps.karras(7, rho=5, t_min=0.01).tolist()
    assert get_scheduler("FlowMatchEulerDiscreteScheduler").table() == FlowODE(timesteps.pid()).table()


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("dpmpp-2m(order=2)@karras(rho=7):12", "dpmpp-2m(order=2)@karras(rho=7):12"),
        (" dpmpp_2m ( order = 2 ) @ karras ( rho = 7.0 ) : 012", "dpmpp-2m(order=2)@karras(rho=7):12"),
        ("euler@uniform:08", "flow-ode@uniform:8"),
        (
            "UniPCMultistepScheduler(b='bh1',order=3)@karras(t_min=1e-2,rho=5.50):7",
            "unipc(order=3,b=bh1)@karras(rho=5.5,t_min=0.01):7",
        ),
        ("lcm@pid", "flow-sde@pid"),
        ("uni_pc@uniform:5", "unipc(order=3,b=bh1)@uniform:5"),
        ("uni_pc_bh2(order=2)@uniform:5", "unipc(order=2)@uniform:5"),
        ("lms@karras:6", "adams-bashforth(order=4)@karras:6"),
        ("euler_cfg_pp(scale=1.50)@karras:6", "euler-cfg-pp(scale=1.5)@karras:6"),
        ("ipndm_v@karras:6", "adams-bashforth(order=4)@karras:6"),
        ("dpmpp_2m_sde_heun(eta=0.5)@karras:6", "dpmpp-2m-sde(eta=0.5,kind=heun)@karras:6"),
        ('seeds-2(eta=1e-20)@discrete(spacing="leading"):5', "seeds-2(eta=1e-20)@discrete(spacing=leading):5"),
    ],
)
def test_a_spec_prints_back_canonically(spec, canonical):
    made = get_scheduler(spec)
    assert str(made) == canonical
    again = get_scheduler(canonical)
    assert (again.table(), str(again)) == (made.table(), canonical)


def test_options_beside_the_spec_are_printed_too_and_times_of_ones_own_as_they_are():
    assert str(get_scheduler("flow-sde@pid:2", eta=0.5)) == "flow-sde(eta=0.5)@pid:2"
    assert str(get_scheduler("flow-sde", [0.5, 0.0], eta=0.5)) == "FlowSDE([0.5, 0.0], eta=0.5)"
    assert str(FlowODE([0.5, 0.0])) == "FlowODE([0.5, 0.0])"


PLUGIN = """
from pidsampler import FlowODE
from pidsampler.schedulers import SchedulerInfo

class Mine(FlowODE):
    info = SchedulerInfo("mine", 1, model_calls_per_step=1, stochastic=False, source="a test")

class Nameless(FlowODE):
    pass
"""


@pytest.fixture(name="plugin")
def _plugin(tmp_path, monkeypatch):
    """Install a package with entry points, as pip would."""

    def install(**points):
        (tmp_path / "plugin_of_a_test.py").write_text(PLUGIN)
        folder = tmp_path / "plugin_of_a_test-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
        lines = [f"{name} = plugin_of_a_test:{value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[pidsampler.schedulers]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_another_package_adds_a_scheduler(plugin):
    plugin(mine="Mine", heun="Nameless")  # a name of ours stays ours
    assert get_scheduler("mine@uniform:3").table() == FlowODE(timesteps.uniform(3)).table()
    assert list_schedulers()[-1].name == "mine"
    assert type(get_scheduler("heun")) is Heun
    with pytest.raises(PidSamplerError, match="unknown scheduler 'minne': did you mean 'mine'"):
        get_scheduler("minne")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Missing", r"scheduler 'mine' \(plugin_of_a_test:Missing\) cannot be loaded: .*Missing"),
        ("Nameless", r"\(plugin_of_a_test:Nameless\) has no SchedulerInfo of that name as info"),
    ],
)
def test_a_broken_package_is_named(plugin, value, message):
    plugin(mine=value)
    with pytest.raises(PidSamplerError, match=message):
        get_scheduler("mine")
    with pytest.raises(PidSamplerError, match=message):
        list_schedulers()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("flow_sd", {}, "unknown scheduler 'flow_sd': did you mean 'flow-sde', "),
        ("HOUN", {}, "did you mean 'heun', "),
        ("DPM 2M", {}, "did you mean .*'dpmpp-2m'"),
        ("zzz", {}, r"unknown scheduler 'zzz': see list_schedulers\(\)$"),
        ("", {}, "cannot read ''"),
        ("heun(", {}, "cannot read 'heun"),
        ("flow-sde(=1)", {}, "cannot read '=1' in .*: expected option=value"),
        ("flow-sde(1,)", {}, "cannot read '' in .*: expected option=value"),
        ("flow-sde(0.5,0.1)", {}, "cannot read '0.1' in .*: only the first option may stand without its name"),
        ("heun@karras(rho=5,1)", {}, "cannot read '1' in .*: only the first option may stand without its name"),
        ("heun.detail(0.1,0.2)@uniform:3", {}, "only the first option may stand without its name"),
        ("flow-sde(0.5)", {"eta": 0.5}, "flow-sde has eta twice, without its name too: use one of them"),
        ("unipc@shifted(3,shift=3):8", {}, "shifted has shift twice, without its name too: use one of them"),
        ("euler_ancestral(0.3,eta=1)@uniform:3", {}, "flow-ancestral has eta twice"),
        ("heun(3)@uniform:8", {}, "heun has no options: leave 3 out"),
        ("heun@uniform(3):8", {}, "uniform has no options: leave 3 out"),
        ("heun.inverted(1,t_min=0.1)@uniform:3", {}, "inverted has t_min twice"),
        ("flow-sde(eta=1,eta=2)", {}, "cannot read 'eta=2' in"),
        ("flow-sde(eta=0.5)", {"eta": 0.1}, "has 'eta', and it was given too"),
        ("flow-sde@karras(roh=7):8", {}, "karras has no option 'roh': did you mean 'rho'. it takes rho, t_max, t_min"),
        ("flow-sde@karas:8", {}, "unknown timestep list 'karas': did you mean 'karras'"),
        ("flow-sde@uniform:x", {}, "'x' in 'flow-sde@uniform:x' is not a number of steps"),
        ("flow-sde@uniform:0", {}, "steps=0"),
        ("flow-sde@uniform:8", {"timesteps": [0.5, 0]}, "use one of them"),
        ("flow-ode", {"eta": 0.5}, "flow-ode has no option 'eta': it takes none"),
        ("flow-sde", {"etta": 0.5}, "flow-sde has no option 'etta': did you mean 'eta'. it takes eta"),
        ("flow-sde(eta=x)", {}, r"eta='x' must be a finite number in \[0, 1\]"),
        ("flow-sde", {"eta": None}, "eta=None must be a finite number"),
        ("deis(order=2.5)", {}, r"order=2\.5 must be a whole number in 1\.\.4"),
        ("restart(t_max=x)@uniform:6", {}, "t_max='x' must be a finite number"),
        ("flow-sde@karras(rho=x):4", {}, "rho='x' must be a finite number above 0"),
        ("flow-sde@discrete(spacing=3):4", {}, "spacing=3 must be a text"),
    ],
)
def test_bad_specs(spec, options, message):
    with pytest.raises(PidSamplerError, match=message):
        get_scheduler(spec, **options)


class Renamed(FlowSDE):
    """A subclass as 0.1 allowed it: what it takes is not what it keeps."""

    def __init__(self, ts, gamma=0.5):
        super().__init__(ts, eta=gamma)


class WithoutSuper(TimesScheduler):
    """One that sets the times itself."""

    def __init__(self, timesteps):
        self.timesteps = timesteps

    def table(self):
        return FlowSDE(self.timesteps).table()


@pytest.mark.parametrize("made", [Renamed([0.9, 0.4, 0.0]), WithoutSuper([0.9, 0.4, 0.0])], ids=["renamed", "no super"])
def test_subclasses_as_in_0_1_are_samplers_and_values(made):
    x = sample(lambda x, t: 0.5 * x, made, shape=(1, 3, 4, 4))
    assert np.array_equal(x, sample(lambda x, t: 0.5 * x, made.table(), shape=(1, 3, 4, 4)))
    assert made == type(made)([0.9, 0.4, 0.0])
    assert hash(made) == hash(type(made)([0.9, 0.4, 0.0]))
    assert made != type(made)([0.9, 0.0])
    with pytest.raises(AttributeError):
        made.timesteps = [0.5, 0.0]


def test_the_parameter_of_0_1():
    with pytest.warns(DeprecationWarning, match="spec of get_scheduler is called sampler now"):
        assert get_scheduler(spec="heun") == get_scheduler("heun")


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("unipc@shifted(3):8", "unipc@shifted(shift=3):8"),
        ("flow-sde( 0.5 )@karras(7,t_max=0.9):4", "flow-sde(eta=0.5)@karras(rho=7,t_max=0.9):4"),
        ("flow-sde(1/0.5/0)@uniform:3", "flow-sde(eta=1/0.5/0)@uniform:3"),
        ("heun.detail(0.5,end=0.9)@uniform:3", "heun.detail(amount=0.5,end=0.9)@uniform:3"),
        ("euler_ancestral(0.3)@uniform:3", "flow-ancestral(eta=0.3)@uniform:3"),
        ("heun@ddim_uniform(2):3", "heun@ddim_uniform(shift=2):3"),
    ],
)
def test_the_first_option_needs_no_name(spec, canonical):
    assert str(get_scheduler(spec)) == canonical
    assert get_scheduler(spec).table() == get_scheduler(canonical).table()
    assert str(Spec.parse(spec)) == spec.replace(" ", "")


def test_the_first_option_needs_no_name_in_a_list_or_a_file(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    assert str(get_scheduler("heun", "shifted(3):4")) == "heun@shifted(shift=3):4"
    assert get_timesteps("shifted", 4, shift=3).tolist() == as_times("shifted(3):4").tolist()
    assert as_times(f"{tmp_path}/own.py:squares(0.5):2").tolist() == [0.5, 0.125, 0.0]
    made = get_scheduler(f"{tmp_path}/own.py:euler(2)@shifted(3):4")
    assert str(made) == f"{tmp_path}/own.py:euler(factor=2)@shifted(shift=3):4"


OWN = """
import numpy as np
from pidsampler import FlowODE

def euler(timesteps, factor=1.0):
    return FlowODE(timesteps).table()

def squares(steps, top=0.999):
    return top * np.linspace(1, 0, steps + 1) ** 2
"""


def test_what_was_made_over_a_file_of_times_knows_its_hash(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "list.txt").write_text("0.9\n0.5\n0\n")
    made = [
        get_scheduler(sampler, f"@{tmp_path}/list.txt")
        for sampler in ("heun", "heun.detail(0.1)", f"{tmp_path}/own.py:euler", Heun, lambda t: Heun(t).table())
    ]
    digest = sha256(tmp_path / "list.txt")
    assert [each.timesteps_sha256 for each in made] == [digest] * 5
    assert made[0] == Heun([0.9, 0.5, 0])
    assert made[2].sha256 == sha256(tmp_path / "own.py")
    of_function = get_scheduler("heun", f"{tmp_path}/own.py:squares:2")
    assert of_function.timesteps_sha256 == made[2].sha256
    assert get_scheduler("heun", [0.9, 0.5, 0]).timesteps_sha256 is None
