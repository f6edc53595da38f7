"""Other projects' names: each that they list is known or answered; `python tests/schedulers/test_names.py` writes the
page docs/names.md anew."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidsampler import PidSamplerError, get_scheduler, timesteps
from pidsampler.schedulers.names import folded, other_names
from pidsampler.schedulers.registry import LISTS, SCHEDULERS, as_scheduler, get_timesteps, without_list
from pidsampler.schedulers.spec import PROJECTS

HERE = Path(__file__)
PAGE = HERE.parents[2] / "docs" / "names.md"
ROWS = other_names()
ELSEWHERE = {
    (project, names[0][0] == "@"): names
    for line in HERE.with_name("names_elsewhere.txt").read_text(encoding="utf-8").splitlines()
    if line[0] != "#"
    for project, *names in [line.split(" | ")]
}


@pytest.fixture(autouse=True, scope="module")
def _alone():
    """No other package's names, which take most of the time to look for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.metadata.entry_points", lambda group: ())
        yield


def title(row):
    """A row's name as a user types it, without a project."""
    return row.name.partition(":")[2] or row.name


def page():
    """The text of docs/names.md."""
    parts = [INTRODUCTION]
    for project, called in PROJECTS.items():
        for lists, what in ((False, "sampler"), (True, "timestep list")):
            rows = [row for row in ROWS if project in row.projects and row.is_list == lists]
            if rows:
                meant = {title(row): row.known for row in rows}  # a meaning of its own comes after the bare name
                parts.append(f"## {called}: {what}s\n\n{sum(meant.values())} of {len(meant)} are here.\n")
                lines = [f"| `{row.name}` | {shown(row)} | {row.note} |" for row in rows]
                parts.append("\n".join([f"| {what} | here | note |", "| --- | --- | --- |", *lines]) + "\n")
    return "\n".join(parts)


def shown(row):
    spec = row.here.lstrip("~")
    return f"`{spec}`" if row.known else f"not here; nearest `{spec}`"


INTRODUCTION = f"""# Names of other projects

A sampler or a list may be called as another project calls it: `get_scheduler("DPM++ 2M Karras:8")`,
`--scheduler dpmpp_2m_sde@sgm_uniform:12`. Case, spaces, `_` and `-` do not matter, and `+` is `p`. A list's name may
stand behind a sampler's. What is not here is answered by what is nearest, and why that is not the same.

A bare name that is ours keeps our meaning. With a project before it, such as `comfy:dpmpp_2m` or `a1111:uniform`, it
has the meaning there: `{"`, `".join(PROJECTS)}`.
A note says where the two differ. `@` stands before a list.

Made of `pidsampler/schedulers/names.txt` by `python tests/schedulers/test_names.py`.
"""


@pytest.mark.parametrize(("project", "lists"), ELSEWHERE)
def test_every_name_that_they_list_is_known_or_answered(project, lists):
    for name in ELSEWHERE[project, lists]:
        for asked in (f"heun{name}:4", f"heun@{project}:{name[1:]}:4") if lists else (name, f"{project}:{name}"):
            answer = answered(asked)
            if isinstance(answer, str):
                assert re.search(r"is not here; the nearest is '[^']+'\. [A-Z].*\.$", answer), asked
            else:
                assert str(answer.spec) == str(answer)


def answered(text):
    """The scheduler of a name, with a list and steps where it has none; or what is said of it."""
    try:
        if "@" not in text:
            text = f"{text}:4" if without_list(text) != text else f"{text}@uniform:4"
        return get_scheduler(text)
    except PidSamplerError as error:
        return str(error)


@pytest.mark.parametrize("project", PROJECTS)
def test_what_a_row_says_is_here_is(project):
    for row in (row for row in ROWS if project in row.projects):
        assert row.known or row.note
        if row.is_list:
            assert row.spec.list in LISTS
            timesteps.custom(get_timesteps(row.spec.list, 4, **row.spec.list_options))
            continue
        assert row.spec.name in SCHEDULERS
        assert get_scheduler(row.spec.name, [0.9, 0.5, 0.2, 0], **row.spec.options).table()
        if row.known and project not in own_meaning(row):
            made = answered(row.name if ":" in row.name else f"{project}:{row.name}")
            assert type(made) is SCHEDULERS[row.spec.name]
            assert made.options.items() >= row.spec.options.items()
            assert made.spec.list == row.spec.list or (made.spec.list == "uniform" and row.spec.list is None)


def own_meaning(row):
    """The projects in which a row's name has a meaning of its own."""
    return {other.projects[0] for other in ROWS if other.name == f"{other.projects[0]}:{row.name}"}


def test_no_two_rows_say_different_things_of_a_name():
    met = defaultdict(set)
    for row in ROWS:
        met[row.is_list, folded(row.name)].add(row.name)
    assert [names for names in met.values() if len(names) > 1] == [{"uni_pc", "UniPC"}]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("DPM++ 2M Karras:8", "dpmpp-2m@karras:8"),
        ("DPM++ 2M SDE Heun Exponential:5", "dpmpp-2m-sde(kind=heun)@exponential:5"),
        ("dpmpp_2m_k:8", "dpmpp-2m@karras:8"),
        ("k_dpmpp_2m_sde_exp:3", "dpmpp-2m-sde@exponential:3"),
        ("Euler a SGM Uniform:6", "flow-ancestral@sgm_uniform:6"),
        ("dpm++2m@simple:4", "dpmpp-2m@simple:4"),
        ("sample_dpmpp_3m_sde@karras:4", "dpmpp-3m-sde@karras:4"),
        ("linear/ralston_2s@beta57:4", "ralston@beta57:4"),
        ("HEUN@Linear Quadratic:4", "heun@linear_quadratic:4"),
        ("uni_pc@karras:4", "unipc(order=3,b=bh1)@karras:4"),
        ("UNI_PC@karras:4", "unipc@karras:4"),
        ("res_6s@karras:4", "res-6s@karras:4"),
        ("res4lyf:res_6s@karras:4", "res-6s(variable=log-sigma)@karras:4"),
        ("DDIM CFG++@karras:4", "euler-cfg-pp@karras:4"),
        ("heun@uniform:4", "heun@uniform:4"),
        ("heun@a1111:uniform:4", "heun@normal:4"),
        ("a1111:Euler a@Align Your Steps:10", "flow-ancestral@ays:10"),
        ("lcm lcm:4", "flow-sde@lcm:4"),
        ("heun@lcm:4", "heun@lcm:4"),
        ("lms(order=3)@karras:4", "adams-bashforth(order=3)@karras:4"),
        (
            "DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++, use_karras_sigmas=True):8",
            "dpmpp-2m-sde@karras:8",
        ),
        ("DPMSolverMultistepScheduler(solver_order=3,use_flow_sigmas=True)@simple:4", "dpmpp-3m@simple:4"),
        ("DPMSolverMultistepScheduler(solver_order=2,use_karras_sigmas=False)@simple:4", "dpmpp-2m@simple:4"),
        (
            "UniPCMultistepScheduler(solver_type=bh1,timestep_spacing=leading):4",
            "unipc(b=bh1)@discrete(spacing=leading):4",
        ),
        ("FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)@pid", "flow-sde@pid"),
    ],
)  # fmt: skip
def test_names_in_a_spec(text, canonical):
    assert str(get_scheduler(text)) == canonical


WRITTEN = st.lists(st.tuples(st.booleans(), st.sampled_from(["", " ", "_", "-", "  "])), min_size=1)


@settings(max_examples=40)
@given(
    st.sampled_from([row for row in ROWS if "(" not in row.name and ":" not in row.name and not row.is_list]), WRITTEN
)
def test_case_spaces_and_separators_do_not_matter(row, written):
    text = "".join(
        (letter.upper() if upper else letter) + between
        for letter, (upper, between) in zip(row.name, written * len(row.name), strict=False)
    ).strip()
    assert folded(text) == folded(row.name)
    if row.name in ("uni_pc", "UniPC"):
        return
    first, second = (answered(name) for name in (row.name, text))
    assert str(first).partition(" is not here")[2] == str(second).partition(" is not here")[2]
    assert isinstance(first, str) or first == second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dpm_adaptive", r"'dpm_adaptive' of ComfyUI, .* is not here; the nearest is 'dpm-solver-3'\. It chooses"),
        ("comfy:DPM Fast", r"'dpm_fast' of ComfyUI, .* is not here; the nearest is .* It chooses the times itself"),
        ("comfy:DPM++ 2S a", "unknown scheduler 'comfy:DPM"),
        ("DPM++ 2M Karras", "timestep list 'karras' needs a number of steps, such as karras:8"),
        ("DPM++ 2M Karras@uniform:8", "names two timestep lists, 'karras' and 'uniform': use one of them"),
        ("ddim_uniform", "'ddim_uniform' is a timestep list: pass a scheduler with it, such as heun@ddim_uniform:8"),
        ("heun:8", "'heun:8' has a number of steps and no timestep list: pass a list, such as 'heun@uniform:8'"),
        ("hoin:8", "unknown scheduler 'hoin': did you mean .*'heun'"),
        ("heun@align_your_steps_32:8", "of A1111 and Forge is not here; the nearest is 'ays'. A list of 32"),
        ("heun@comfy:beta57:8", "unknown timestep list 'comfy:beta57'"),
        ("DPMSolverMultistepScheduler(algorithm_type=dpmsolver)", "the nearest is 'dpmpp-2m'. DPM-Solver keeps"),
        ("DPMSolverMultistepScheduler(solver_order=4)", "with solver_order=4 is not here; the nearest is 'dpmpp-2m'"),
        ("DPMSolverMultistepScheduler(nope=4)", "dpmpp-2m has no option 'nope'"),
    ],
)  # fmt: skip
def test_what_is_said_of_others(text, message):
    with pytest.raises(PidSamplerError, match=message):
        get_scheduler(text)


def test_a_list_in_a_name_takes_steps_and_no_other_list():
    assert str(get_scheduler("Euler a", "karras:4")) == "flow-ancestral@karras:4"
    assert str(get_scheduler("heun", "Align Your Steps:4")) == "heun@ays:4"
    assert str(as_scheduler("DPM++ 2M Karras", steps=6)) == "dpmpp-2m@karras:6"
    for spec in ("dpmpp_2m_k:8", "heun@pid"):  # the one has a number, the other a length of its own
        with pytest.raises(PidSamplerError, match="names a timestep list and steps were given too"):
            as_scheduler(spec, steps=2)
    with pytest.raises(PidSamplerError, match="names a timestep list and timesteps were given too"):
        get_scheduler("dpmpp_2m_k", [0.9, 0])
    assert without_list("DPM++ 2M SDE Heun Karras:8") == "dpmpp-2m-sde(kind=heun)"
    assert without_list("Euler a@karras:8") == "Euler a"
    assert get_scheduler("lms", order=3).options["order"] == 3
    assert str(get_scheduler("DPMSolverMultistepScheduler@karras:4", solver_order=3)) == "dpmpp-3m@karras:4"


def test_the_page_is_that_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
