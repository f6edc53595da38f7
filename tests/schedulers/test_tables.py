"""Tables of the schedulers of version 0.1 as it made them, in its own JSON format."""

import json
from pathlib import Path

import pytest

from pidsampler import StepTable, get_scheduler

STORED = Path(__file__).with_name("tables.json")
TABLES = json.loads(STORED.read_text())


def numbers(table):
    """Its numbers in order, and all else of it."""
    found = []

    def taken(value):
        if isinstance(value, float):
            found.append(value)
            return None
        if isinstance(value, dict):
            return {key: taken(part) for key, part in value.items()}
        return [taken(part) for part in value] if isinstance(value, list) else value

    return taken(json.loads(json.dumps(table))), found


@pytest.mark.parametrize("spec", TABLES)
def test_tables_are_those_of_version_0_1(spec):
    table, stored = get_scheduler(spec).table(), StepTable.from_json(json.dumps(TABLES[spec]))
    assert TABLES[spec]["format"] == "pidsampler.StepTable/1"
    (form, found), (stored_form, expected) = numbers(table.to_dict()), numbers(stored.to_dict())
    assert form == stored_form
    assert found == pytest.approx(expected, rel=1e-13, abs=1e-15)  # another C library may round a power otherwise
    assert stored.times == table.times
