"""What there is, told in Python and on the command line; and completion in a shell."""

import json
import sys
import types

import attrs
import pytest

import pidsampler as ps
from pidsampler import PidSamplerError, values
from pidsampler.cli import main
from pidsampler.schedulers.registry import LISTS, SCHEDULERS
from pidsampler.values import expected


@pytest.fixture(name="run")
def _run(capsys):
    def run(*arguments):
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_is_described_by_its_class(name):
    found = ps.describe_scheduler(name)
    made = ps.get_scheduler(found.example)
    info = SCHEDULERS[name].info
    assert type(made) is SCHEDULERS[name]
    assert (found.accuracy_order, found.model_calls_per_step) == (info.accuracy_order, info.model_calls_per_step)
    assert (found.stochastic, found.source) == (info.stochastic, info.source)
    assert found.summary
    assert {option.name: option.default for option in found.options if option.default is not None}.items() <= (
        made.options.items()
    )
    for other in found.aliases:
        assert ps.describe_scheduler(other) == found
    for option in found.options:
        assert option.takes
        low, high = (option.limits.get(end) for end in ("low", "high"))
        for wrong in [end + step for end, step in ((low, -1), (high, 1)) if end is not None]:
            with pytest.raises(PidSamplerError, match=option.name):
                ps.get_scheduler(found.example, **{option.name: wrong})
        for right in option.limits.get("choices", ()):
            ps.get_scheduler(found.example, **{option.name: right})


def test_lists_are_described_by_their_functions():
    listed = ps.list_timesteps()
    assert [found.name for found in listed] == list(LISTS)
    for found in listed:
        assert ps.get_scheduler(found.example).timesteps[-1] == 0.0
        assert found.summary.startswith("Return ")
        assert found.source or found.name == "uniform"
        for option in found.options:
            assert option.takes
            low, high = (option.limits.get(end) for end in ("low", "high"))
            for wrong in [end + step for end, step in ((low, -1), (high, 1)) if end is not None]:
                with pytest.raises(PidSamplerError, match=option.name):
                    ps.get_scheduler(f"heun@{found.name}({option.name}={wrong}):4")
        for other in found.aliases:
            assert ps.describe_timesteps(other) == found


def test_the_command_line_says_the_same(run):
    code, out, err = run("schedulers", "DPM++ 2M SDE")
    assert (code, err) == (0, "")
    assert out.splitlines()[:6] == [
        "dpmpp-2m-sde: DPM-Solver++(2M) for the SDE of strength eta.",
        "",
        "option  default   takes",
        "eta     1.0       a number from 0, or a list of one for each step",
        "kind    midpoint  one of midpoint, heun",
        "order   2         a whole number in 1..2",
    ]
    assert (
        "source       DPM-Solver++, arXiv 2211.01095\nexample      dpmpp-2m-sde@log_snr:8\nalso called  dpmpp_2m_sde"
        in out
    )
    assert json.loads(run("schedulers", "heun", "--json")[1]) == json.loads(
        json.dumps(attrs.asdict(ps.describe_scheduler("heun")))
    )
    assert [each["name"] for each in json.loads(run("schedulers", "--json")[1])] == list(SCHEDULERS)
    code, out, err = run("timesteps", "align your steps")
    assert (code, err) == (0, "")
    assert out.startswith('ays: Return the list of "Align your steps" for a model')
    assert "model   sd1      one of sd1, sdxl, svd\nshift   1.0      a number above 0\n" in out
    assert [line.split()[0] for line in run("timesteps")[1].splitlines()] == ["name", *LISTS]
    assert [each["name"] for each in json.loads(run("timesteps", "--json")[1])] == list(LISTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedulers", "hoin"], "unknown scheduler 'hoin': did you mean"),
        (["schedulers", "dpm_fast"], "is not here; the nearest is 'dpm-solver-3'"),
        (["timesteps", "karas"], "unknown timestep list 'karas': did you mean 'karras'"),
        (["timesteps", "ltx2"], "is not here; the nearest is 'flux'"),
        (["timesteps", "zzz"], "unknown timestep list 'zzz': see 'pidsampler timesteps'"),
    ],
)
def test_unknown_names_are_answered(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_what_a_check_takes_in_words():
    assert expected(values.whole, low=1, high=3) == "a whole number in 1..3"
    assert expected(values.wholes) == "whole numbers"
    assert expected(values.number, low=0, above=True) == "a number above 0"
    assert expected(values.numbers, low=0, high=1, below=True) == "numbers in [0, 1)"
    assert expected(values.word, choices=("a", "b")) == "one of a, b"
    assert expected(values.word) == "a text"
    assert expected(values.flag) == "True or False"
    assert expected(values.instance, kind=int, words="an int") == "an int"
    assert expected(values.words) == "tuple[str, ...]"


def test_a_shell_is_told_names(monkeypatch):
    """The names that argcomplete is given; how it offers them is its own."""
    asked = {}

    def autocomplete(parser):
        for action in parser.actions():
            for command, its in (action.choices or {}).items():
                asked[command] = {a.dest: a.completer for a in its.actions() if hasattr(a, "completer")}
        raise SystemExit(0)

    monkeypatch.setitem(sys.modules, "argcomplete", types.SimpleNamespace(autocomplete=autocomplete))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        main([])
    assert asked["schedulers"]["name"](prefix="") == list(SCHEDULERS)
    assert asked["timesteps"]["name"](prefix="") == list(LISTS)
    assert asked["table"]["scheduler"](prefix="heun@k")[:2] == ["heun@pid", "heun@uniform"]
    assert asked["upscale"]["scheduler"](prefix="he") == list(SCHEDULERS)
    assert asked["upscale"]["timesteps"](prefix="") == list(LISTS)
    assert asked["inspect"]["model"](prefix="") == ["tiny", "tiny-teacher", "gaussian"]
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert main(["models"]) == 1  # it names the extra
