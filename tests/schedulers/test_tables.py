"""Tables of every scheduler as version 0.1 made them, stored by `python tests/schedulers/test_tables.py`."""

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
    (form, found), (stored_form, stored) = numbers(get_scheduler(spec).table().to_dict()), numbers(TABLES[spec])
    assert form == stored_form
    assert found == pytest.approx(stored, rel=1e-13, abs=1e-15)  # another C library may round a power otherwise
    assert StepTable.from_json(json.dumps(TABLES[spec])).times == get_scheduler(spec).table().times


def main():
    from pidsampler import list_schedulers

    specs = [f"{info.name}@{times}" for info in list_schedulers() for times in ("uniform:6", "karras:4")]
    tables = {spec: get_scheduler(spec).table().to_dict() for spec in specs}
    STORED.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in tables.items()) + "\n}\n")


if __name__ == "__main__":
    main()
