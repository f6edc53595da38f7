"""docs/proofs.md says which tests each scheduler has; `python tests/schedulers/test_proofs.py` writes it anew.

A test has a scheduler where pytest's parameters name it: the page is made of these, and of the registry.
"""

import functools
import importlib.util
import re
from pathlib import Path

from pidsampler import list_schedulers
from pidsampler.schedulers import SchedulerInfo

HERE = Path(__file__)
PAGE = HERE.parents[2] / "docs" / "proofs.md"
INFOS = list_schedulers()
# What a column is called, the tests of it, what they show.
PROOFS = [
    (
        "order",
        ["schedulers: order_of_convergence", "schedulers: weak_order"],
        "As steps are halved, the error falls with the claimed order, to 0.2. Methods without noise are compared with "
        "the exact solution of two flows. Methods with noise are compared with the law's mean and deviation. "
        "A method of order 0 claims none, and is held to that.",
    ),
    (
        "conditions",
        ["schedulers: registered_order_is_the_tableaus", "exponential: registered_order_is_the_tableaus"],
        "The claimed order is the one that the order conditions give for the method's coefficients.",
    ),
    (
        "law",
        ["schedulers: the_law_of_the_flow_at_every_time", "schedulers: samples_have_the_moments_of_the_table"],
        "Samples have the right mean and variance within five standard errors: those of the flow at every time, or "
        "those that the table's own coefficients give.",
    ),
    (
        "inversion",
        ["inversion: every_method_without_noise_comes_back"],
        "Sixteen steps up to the noise and sixteen down come back to the picture, within 0.03.",
    ),
    (
        "diffusers",
        ["parity: states_agree"],
        "Each state agrees with a run of diffusers to 1e-6 of its size, but for differences that the test names.",
    ),
    (
        "ComfyUI",
        ["parity: samplers_of_comfyui"],
        "Each x that is evaluated, and the result, agree with ComfyUI's own function to 1e-9.",
    ),
    (
        "kept",
        ["tables: tables_are_those_of_version_0_1"],
        "The coefficients are those of version 0.1, to 13 digits.",
    ),
]
# The tests of all schedulers, and what they show.
ALL = {
    "schedulers: registry_sweep": (
        "It is found by each of its names, has its source in its docstring, makes as many rows as it says, has no "
        "state, and goes through JSON."
    ),
    "schedulers: any_list_gives_a_table_that_passes_its_checks": (
        "Any valid list of times, drawn by hypothesis, gives a table that passes the checks, or a plain error."
    ),
    "schedulers: close_times_are_refused_or_warned_of_or_do_no_harm": (
        "Times that nearly coincide are refused, warned of, or do no harm."
    ),
    "wrappers: every_method_can_be_wrapped": "Every wrapper can be put around it.",
}


@functools.cache
def load(name):
    spec = importlib.util.spec_from_file_location(f"proofs_{name}", HERE.with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def covered(test):
    """The schedulers that a test's parameters name: as an info, a class with one, a spec, or a run with a spec."""
    file, name = test.split(": ")
    module = load(f"test_{file}")
    marks = [mark for mark in getattr(module, f"test_{name}").pytestmark if mark.name == "parametrize"]
    values = [value for mark in marks for value in mark.args[1]]
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return {found for part in parts if (found := named(module, part)) is not None}


def named(module, part):
    if isinstance(part, dict) and "config" in part:
        part = type(module.ours(part))
    if isinstance(part, dict):
        part = part.get("spec")
    info = part if isinstance(part, SchedulerInfo) else getattr(part, "info", None)
    text = info.name if isinstance(info, SchedulerInfo) else part if isinstance(part, str) else ""
    first = re.match(r"[a-z0-9-]*", text)[0]
    return first if first in {each.name for each in INFOS} else None


def shown(tests):
    return ", ".join(dict.fromkeys(f"`test_{test.partition(': ')[2]}`" for test in tests))


def page():
    lines = [
        *("# What is tested of each scheduler", ""),
        "Made of the registry and of the tests' parameters by `python tests/schedulers/test_proofs.py`. A test keeps",
        "it true. The tests are in [tests/schedulers](../tests/schedulers).",
        *("", f"## All {len(INFOS)} schedulers", ""),
        *(f"- {words} ({shown([test])})" for test, words in ALL.items()),
        *("", "## Each scheduler", ""),
    ]
    found = [(column, set().union(*map(covered, tests))) for column, tests, _ in PROOFS]
    lines += [
        f"| scheduler | claimed order | noise | {' | '.join(column for column, _ in found)} |",
        f"| --- | --- | --- |{' --- |' * len(found)}",
    ]
    for info in INFOS:
        cells = [(info.name in names and "yes") or "" for _, names in found]
        noise = "yes" if info.stochastic else "no"
        lines.append(f"| `{info.name}` | {info.accuracy_order} | {noise} | {' | '.join(cells)} |")
    lines += ["", "## The columns", ""]
    for column, tests, words in PROOFS:
        lines.append(f"- **{column}**: {words} ({shown(tests)})")
    return "\n".join(lines) + "\n"


def test_the_page_says_what_is_tested():
    assert PAGE.read_text(encoding="utf-8") == page(), f"python {HERE}"


def test_what_is_said_of_all_is_tested_of_all():
    for test in ALL:
        assert covered(test) == {info.name for info in INFOS}


def test_every_order_is_proved():
    column, tests, _ = PROOFS[0]
    assert column == "order"
    assert set().union(*map(covered, tests)) == {info.name for info in INFOS}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
