"""A sampler, and timesteps, in every form that can be given, wherever one is taken."""

import json
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from pidsampler import (
    FlowODE,
    FlowSDE,
    PidSamplerError,
    Row,
    StepTable,
    get_scheduler,
    sample,
    schedulers,
    start,
    timesteps,
)
from pidsampler.cli import main
from pidsampler.denoiser import GaussianMixture
from pidsampler.io.tables import read_table
from pidsampler.schedulers.registry import as_scheduler, as_times, get_timesteps
from pidsampler.search import Search

LAW = GaussianMixture([-0.6, 0.5], [0.1, 0.2], [1, 2])
SHAPE = (1, 3, 5, 7)
FILE = """
from itertools import pairwise
from pidsampler import FlowODE, Row, StepTable

def euler(timesteps, scale=1):
    return StepTable(Row(t, s, a=s / t, b=1 - s / t) for t, s in pairwise(timesteps))

def scheduler(timesteps):
    return FlowODE(timesteps)

class Own(FlowODE):
    pass

made = FlowODE([0.9, 0.5, 0.0])
table = made.table()
times = [0.8, 0.4, 0.2, 0.0]
three = 3

def halving(steps=2, ratio=0.5):
    return [ratio**k for k in range(steps)] + [0.0]

def needs_steps(steps):
    return halving(steps)

def fails(timesteps):
    raise RuntimeError("out of luck")
"""


def euler(times):
    return StepTable(Row(t, s, a=s / t, b=1 - s / t) for t, s in pairwise(times))


class NoSubclass:
    def __init__(self, times):
        self.times = times

    def table(self):
        return euler(self.times)


@pytest.fixture(name="files")
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(FILE)
    (tmp_path / "table.json").write_text(FlowODE([0.9, 0.5, 0.0]).table().to_json())
    (tmp_path / "list.txt").write_text("# mine\n0.8\n0.4\n0.2\n0\n")
    return tmp_path


ODE = FlowODE(timesteps.pid()).table()
OTHER = FlowODE([0.9, 0.5, 0.0]).table()
FORMS = [
    ("flow-ode", ODE),
    ("flow-ode@pid", ODE),
    (FlowODE(timesteps.pid()), ODE),
    (ODE, ODE),
    (FlowODE, ODE),
    (euler, euler(timesteps.pid())),
    (FlowODE([0.9, 0.5, 0.0]), OTHER),
    (NoSubclass, euler(timesteps.pid())),
    (NoSubclass([0.9, 0.5, 0.0]), euler([0.9, 0.5, 0.0])),
    ("my.py:euler", euler(timesteps.pid())),
    ("my.py:euler(scale=2)", euler(timesteps.pid())),
    ("my.py:euler@uniform:3", euler(timesteps.uniform(3))),
    ("my.py:scheduler", ODE),
    ("my.py:Own", ODE),
    ("my.py:made", OTHER),
    ("my.py:table", OTHER),
    ("@table.json", OTHER),
]


@pytest.mark.parametrize(("form", "table"), FORMS, ids=lambda value: str(value).split(" at 0x")[0][:40])
def test_every_form_of_a_sampler_everywhere(files, form, table):
    assert get_scheduler(form).table() == table
    expected = sample(LAW, table, shape=SHAPE, seed=5)
    assert_array_equal(sample(LAW, form, shape=SHAPE, seed=5), expected)
    run = start(form, np.empty(SHAPE, np.float32), seed=5)
    run.initial_noise()
    assert_array_equal(run.finish(LAW), expected)


@pytest.mark.parametrize(("form", "table"), [pair for pair in FORMS if isinstance(pair[0], str)])
def test_every_text_on_the_command_line(files, capsys, form, table):
    assert main(["table", form]) == 0
    title, blank, rows = capsys.readouterr().out.split("\n", 2)
    named = form not in ("flow-ode",)
    assert (title, blank) == (form if named else str(FlowODE(timesteps.pid())), "")
    assert rows == f"{table}\n"
    assert main(["table", form, "--json"]) == 0
    assert StepTable.from_json(capsys.readouterr().out) == table


TIMES = [
    ([0.8, 0.4, 0.2, 0.0], [0.8, 0.4, 0.2, 0.0]),
    ("0.8,0.4,0.2,0", [0.8, 0.4, 0.2, 0.0]),
    ("@list.txt", [0.8, 0.4, 0.2, 0.0]),
    ("my.py:times", [0.8, 0.4, 0.2, 0.0]),
    ("my.py:times:1", [0.8, 0.0]),
    ("my.py:halving", [1.0, 0.5, 0.0]),
    ("my.py:halving(ratio=0.25):3", [1.0, 0.25, 0.0625, 0.0]),
    ("karras(rho=5):4", timesteps.karras(4, rho=5).tolist()),
    ("uniform:2", [1.0, 0.5, 0.0]),
    ("pid", timesteps.pid().tolist()),
    (None, timesteps.pid().tolist()),
]


@pytest.mark.parametrize(("form", "times"), TIMES, ids=lambda value: str(value).split(" at 0x")[0][:30])
def test_every_form_of_timesteps(files, capsys, form, times):
    assert as_times(form).tolist() == times
    assert get_scheduler("flow-ode", form).table() == FlowODE(times).table()
    assert get_scheduler("my.py:Own", form).table() == FlowODE(times).table()
    if isinstance(form, str):
        assert main(["table", "flow-ode", "--timesteps", form, "--json"]) == 0
        assert StepTable.from_json(capsys.readouterr().out) == FlowODE(times).table()


def test_steps_are_taken_from_any_times(files):
    assert as_times(steps=2).tolist() == timesteps.pid(2).tolist()
    assert as_times(steps=2, own=[0.7, 0.5, 0.3, 0.1, 0.0]).tolist() == [0.7, 0.3, 0.0]
    assert as_times("@list.txt", steps=1).tolist() == [0.8, 0.0]
    assert as_times("uniform", steps=2).tolist() == [1.0, 0.5, 0.0]
    assert as_times("my.py:needs_steps", steps=2).tolist() == [1.0, 0.5, 0.0]
    assert str(as_scheduler("heun", timesteps="karras(rho=5.0)", steps=3)) == "heun@karras(rho=5):3"


def test_paths_start_in_a_folder(files, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert as_scheduler("@table.json", folder=tmp_path).table() == OTHER
    assert as_scheduler("my.py:made", folder=tmp_path).table() == OTHER
    assert as_times("@list.txt", folder=tmp_path).tolist() == [0.8, 0.4, 0.2, 0.0]
    assert as_times("my.py:times", folder=tmp_path).tolist() == [0.8, 0.4, 0.2, 0.0]


def test_a_sampler_of_a_file_is_named_as_it_was_given_and_goes_to_other_processes(files):
    import pickle

    made = get_scheduler("my.py:Own@uniform:3")
    assert (str(made), repr(made)) == ("my.py:Own@uniform:3", "my.py:Own@uniform:3")
    assert made.timesteps == tuple(timesteps.uniform(3).tolist())
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(get_scheduler("my.py:Own@uniform:3"))
    assert get_scheduler("my.py:made").timesteps == (0.9, 0.5, 0.0)
    assert get_scheduler("@table.json").timesteps == (0.9, 0.5, 0.0)


def test_a_search_takes_a_class_or_a_file(files):
    assert Search(FlowODE, 3).steps == Search("my.py:euler", 3).steps == Search("flow-ode", 3).steps == 3
    with pytest.raises(PidSamplerError, match="has its timesteps already"):
        Search("@table.json", 3)
    with pytest.raises(PidSamplerError, match="names a timestep list, which is what to find"):
        Search("my.py:euler@uniform:3", 3)


def test_the_old_names_of_the_parameter_warn():
    x = np.zeros(SHAPE, np.float32)
    with pytest.warns(DeprecationWarning, match="the parameter table of sample is called sampler now"):
        sample(LAW, table=ODE, shape=SHAPE)
    with pytest.warns(DeprecationWarning, match="the parameter table of start is called sampler now"):
        start(table=ODE, x=x)
    with pytest.warns(DeprecationWarning, match="the parameter scheduler of Search is called sampler now"):
        Search(scheduler="flow-ode", calls=3)
    with pytest.warns(DeprecationWarning, match="pass shape, seed of sample by keyword"):
        found = sample(LAW, ODE, SHAPE, 5)
    assert_array_equal(found, sample(LAW, ODE, shape=SHAPE, seed=5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_scheduler("my.py:huen"), "my.py has no function 'huen', to take a sampler from"),
        (lambda: get_scheduler("your.py:heun"), "cannot read 'your.py', to take a sampler from: No such file"),
        (lambda: get_scheduler("my.py:"), "cannot read 'my.py:'"),
        (lambda: get_scheduler("my.py"), r"'my\.py' is a file: a sampler of one is FILE\.py:NAME, or @FILE\.json"),
        (lambda: get_scheduler("in/table.json"), r"'in/table\.json' is a file: a sampler of one is FILE\.py:NAME"),
        (lambda: as_times("my.py"), r"'my\.py' is a file: timesteps of one are FILE\.py:NAME, or @FILE"),
        (lambda: as_times("list.txt"), r"'list\.txt' is a file: timesteps of one are FILE\.py:NAME, or @FILE"),
        (lambda: get_scheduler("my.py:three"), "my.py:three is 3, expected a spec, a scheduler or StepTable"),
        (lambda: get_scheduler("my.py:fails"), "my.py:fails failed: RuntimeError: out of luck"),
        (lambda: get_scheduler("my.py:halving"), r"my.py:halving failed: TypeError|returned \[.*expected a StepTable"),
        (lambda: get_scheduler("my.py:euler", eta=1), "my.py:euler has no option 'eta': it takes scale"),
        (lambda: get_scheduler("my.py:euler(scale=1)", scale=1), "has 'scale', and it was given too"),
        (lambda: get_scheduler("my.py:made", [0.5, 0]), "my.py:made has its timesteps already"),
        (lambda: get_scheduler("my.py:made@uniform:3"), "my.py:made has its timesteps already"),
        (lambda: get_scheduler("my.py:made", eta=1), "my.py:made has no option 'eta': it takes none"),
        (lambda: get_scheduler("@table.json", "uniform:3"), "@table.json has its timesteps already"),
        (lambda: get_scheduler("@table.json", eta=1), "@table.json has no option 'eta': it takes none"),
        (lambda: get_scheduler("@none.json"), "cannot read none.json: No such file"),
        (lambda: get_scheduler("@"), "cannot read"),
        (lambda: get_scheduler(ODE, [0.5, 0]), "StepTable has its timesteps already"),
        (lambda: get_scheduler(FlowSDE, etta=1), "FlowSDE has no option 'etta': did you mean 'eta'. it takes eta"),
        (lambda: get_scheduler(3), "the sampler is 3, expected a spec, a scheduler or StepTable"),
        (lambda: get_scheduler(None), "the sampler is None, expected"),
        (lambda: get_scheduler(dict), r"dict failed: |dict\(timesteps\) returned"),
        (lambda: as_times("my.py:needs_steps"), "'my.py:needs_steps' needs a number of steps"),
        (lambda: as_times("my.py:times(a=1)"), r"my.py:times\(a=1\) has no option 'a': it takes none"),
        (lambda: as_times("my.py:three"), "timesteps"),
        (lambda: as_times("uniform:3", steps=3), "'uniform:3' has a number of steps and steps=3 was given too"),
        (lambda: as_times("0.9,x,0"), "timestep 'x' is not a number: pass a list such as 0.999,0.634,0"),
        (lambda: as_times("0.9,0.5"), "end in 0.5, expected 0"),
        (lambda: as_times("karras(rho"), "cannot read 'karras"),
        (lambda: as_times("karas:4"), "unknown timestep list 'karas': did you mean 'karras'"),
        (lambda: as_times("uniform@pid"), "cannot read 'uniform@pid'"),
        (lambda: as_times("@none.txt"), "cannot read none.txt"),
        (lambda: as_times(3), "timesteps"),
    ],
)
def test_what_is_no_sampler_or_no_times(files, make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b'{"format": "pidsampler.StepTable/1", "rows": []}',
        b'{"format": "pidsampler.StepTable/1", "rows": [{}]}',
        b'{"format": "pidsampler.StepTable/1", "rows": 3}',
        b'{"format": "other", "rows": []}',
        b"[" * 100_000,
        json.dumps(json.loads(ODE.to_json()) | {"rows": [{"t": 10**400}]}).encode(),
        ODE.to_json().replace('"slot"', '"slto"').replace('"p": 1.0', '"p": 1e999').encode(),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, text):
    (tmp_path / "table.json").write_bytes(text)
    with pytest.raises(PidSamplerError, match=r"table\.json"):
        read_table(tmp_path / "table.json")


@pytest.mark.parametrize("sampler", ["heun", "dpmpp-2m", "flow-ancestral", schedulers.Heun, "my.py:two"])
@pytest.mark.parametrize("own", [None, [0.9, 0.6, 0.3, 0.1, 0.05, 0.0]])
def test_more_steps_than_a_list_has_resample_it(tmp_path, sampler, own):
    (tmp_path / "my.py").write_text("from pidsampler import FlowODE\ndef two(times): return FlowODE(times)")
    listed = timesteps.pid() if own is None else own
    for steps in (8, 20):
        made = as_scheduler(sampler, steps=steps, own=own, folder=tmp_path)
        assert list(made.timesteps) == timesteps.resample(listed, steps).tolist()
    fewer = as_scheduler(sampler, steps=2, own=own, folder=tmp_path)
    assert list(fewer.timesteps) == timesteps.subset(listed, 2).tolist()


@pytest.mark.parametrize("sampler", ["flow-sde", "flow-ode", "euler", "ddim", "lcm", "flow-sde(eta=0.5)", FlowSDE])
def test_a_students_own_samplers_say_how_to_have_more_steps(sampler):
    for steps in (5, 8, 32, 33, 100):
        with pytest.raises(PidSamplerError, match=f"steps={steps} would repeat times of a list of 4: pass 1..4, or"):
            as_scheduler(sampler, steps=steps)
        try:
            as_scheduler(sampler, steps=steps)
        except PidSamplerError as error:
            told = str(error).partition("pass timesteps=")[2].strip("'")
        times = as_times(told)
        assert len(times) == steps + 1
        assert (times[0], times[-2]) == (0.999, 0.342)
        if steps < 33:
            assert np.allclose(times, timesteps.resample(timesteps.pid(), steps), rtol=2e-4, atol=0)


def test_a_list_that_cannot_be_resampled_says_so():
    with pytest.raises(PidSamplerError, match="steps=5 would repeat times of a list of 2"):
        as_scheduler("flow-sde", steps=5, own=[1.0, 0.5, 0.0])
    with pytest.raises(PidSamplerError, match="where log-SNR is infinite: start below 1"):
        as_scheduler("heun", steps=5, own=[1.0, 0.5, 0.0])


def test_a_file_too_large_for_a_table_is_not_read(tmp_path):
    with (tmp_path / "table.json").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(PidSamplerError, match="is larger than 64 MB"):
        read_table(tmp_path / "table.json")
    with pytest.raises(PidSamplerError, match="cannot read"):
        read_table(tmp_path)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp-2m", "flow-ancestral", "my.py:two"])
def test_a_students_list_is_resampled_whichever_way_its_steps_are_given(tmp_path, sampler):
    (tmp_path / "my.py").write_text("from pidsampler import FlowODE\ndef two(times): return FlowODE(times)")
    for steps in (1, 3, 8):
        by_steps = as_scheduler(sampler, steps=steps, folder=tmp_path).table()
        assert as_scheduler(f"{sampler}@pid:{steps}", folder=tmp_path).table() == by_steps
        for given in ({"timesteps": f"pid:{steps}"}, {"timesteps": "pid", "steps": steps}):
            assert as_scheduler(sampler, folder=tmp_path, **given).table() == by_steps
    assert as_scheduler(schedulers.Heun, timesteps="pid:8").table() == as_scheduler("heun", steps=8).table()


@pytest.mark.parametrize("sampler", ["flow-sde", "ddim", "flow-sde(eta=0.5)"])
def test_a_students_own_samplers_refuse_more_steps_in_the_same_words(sampler):
    def told(*arguments, **more):
        with pytest.raises(PidSamplerError) as caught:
            as_scheduler(*arguments, **more)
        return str(caught.value)

    by_steps = told(sampler, steps=8)
    assert by_steps.endswith("for that list resampled to 8 steps pass timesteps='0.999,0.9914,0.93,0.8161,0.7162,"
                             "0.5933,0.4654,0.342,0'")  # fmt: skip
    assert told(sampler, timesteps="pid:8") == told(sampler, timesteps="pid", steps=8) == by_steps
    assert told(f"{sampler}@pid:8") == f"{by_steps} with the sampler {sampler!r}"
    with pytest.raises(PidSamplerError, match="for that list resampled to 8 steps pass timesteps="):
        get_timesteps("pid", 8)
