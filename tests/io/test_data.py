"""JSON and TOML of strangers: what is deep, long, of two meanings or no finite number is refused."""

import json
import os
import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pidsampler import PidSamplerError, StepTable, from_diffusers, get_scheduler
from pidsampler.io.data import parse_json, parse_toml, read_json
from pidsampler.io.records import find_record
from pidsampler.io.tables import read_table
from pidsampler.io.times import read_list
from pidsampler.study.file import read_study
from pidsampler.upscale.source import Source

DEEP = "[" * 100_000 + "]" * 100_000
# What no reader of JSON takes: the text, and what the error says.
BAD = {
    "no JSON": ("{", "not a list: Expecting property name"),
    "nothing": ("", "not a list: Expecting value"),
    "deep": (DEEP, "not a list: it has more than 32 lists or objects within one another"),
    "deep, cut": ("[" * 33, "more than 32 lists"),
    "deep objects": ('{"a":' * 33 + "1" + "}" * 33, "more than 32 lists"),
    "deep after a bracket in a text": ('["]]]]", ' + "[" * 32, "more than 32 lists"),
    "long": ("[" + "0," * 1_000_000 + "0]", "more than 1000000 values"),
    "twice": ('[{"a": 1, "a": 2}]', "it has the name 'a' twice: leave one out"),
    "NaN": ("[NaN]", "it holds nan, expected finite numbers"),
    "infinity": ("[-Infinity]", "it holds -inf, expected finite numbers"),
    "1e999": ("[1e999]", "it holds inf, expected finite numbers"),
    "10^400": (f"[{10**400}]", "it holds a whole number of 1329 bits, expected up to 64"),
    "10^5000": ("[1" + "0" * 5000 + "]", "it holds a whole number of 5001 digits, expected up to 64 bits"),
    "half a pair": (r'["\ud800"]', r"it holds '\\ud800', which is no text of Unicode"),
    "half a pair in a name": (r'{"\udfff": 1}', "no text of Unicode"),
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64) + 1, 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_refuses(text, message):
    with pytest.raises(PidSamplerError, match=message):
        parse_json(text, expected="a list")


@given(VALUES)
def test_gives_what_json_holds(value):
    for ascii_only in (False, True):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only), expected="a value") == value


@given(st.text(alphabet='[]{}"\\,a'))
def test_depth_is_that_of_the_parser(text):
    def depth(value):
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    try:
        known = depth(json.loads(text))
    except ValueError:
        return
    if isinstance(json.loads(text), list) and known > 1:
        assert depth(parse_json(text, expected="a list", most_depth=known)) == known
        with pytest.raises(PidSamplerError, match="within one another"):
            parse_json(text, expected="a list", most_depth=known - 1)


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "a = " + DEEP: "not a study",
        "a" + ".a" * 40 + " = 1": "more than 32 lists or objects",
        "a = nan": "it holds nan",
        "a = inf": "it holds inf",
        "a = 0x" + "f" * 5000: "it holds a whole number of 20000 bits",
        "a = 1979-05-27": "expected texts, numbers, lists and tables",
        "a = 1\na = 2": "not a study: Cannot overwrite a value",
    }.items(),
)
def test_toml_has_the_same_rules(text, message):
    with pytest.raises(PidSamplerError, match=message):
        parse_toml(text, expected="a study")


def _png(path, text):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = b"pidsampler\0\0\0\0\0" + text.encode()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"iTXt", body) + chunk(b"IDAT", b""))
    return path


def test_every_reader_of_json_has_the_rules(tmp_path):
    assert find_record(_png(tmp_path / "a.png", '{"a": 1}')) == {"a": 1}
    for name in BAD.keys() - {"long"}:
        text = BAD[name][0]
        (path := tmp_path / "bad.json").write_text(text)
        for reader in (
            read_table,
            from_diffusers,
            lambda path: read_json(path, expected="JSON"),
            read_study,
            read_list,
        ):
            with pytest.raises(PidSamplerError) as refused:
                reader(path)
            assert str(path) in str(refused.value)
        with pytest.raises(PidSamplerError):
            StepTable.from_json(text)
        assert find_record(_png(tmp_path / "a.png", text)) is None


def test_a_png_that_is_all_zeros_has_no_record(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2**40)
    assert find_record(tmp_path / "a.png") is None


def test_files_are_only_as_large_as_such_files_are(tmp_path):
    for name, size, reader in (("t.txt", 2, read_list), ("c.json", 1, from_diffusers), ("s.toml", 1, read_study)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(size * 1_000_000 + 1)
        with pytest.raises(PidSamplerError, match=f"is larger than {size} MB, too large for such a file"):
            reader(tmp_path / name)


def test_a_study_of_seeds_without_end_is_refused(tmp_path):
    study = "preset = {{model = 'law', seeds = {}}}\nflows.law = {{means = [0], stds = [1]}}"
    for seeds in (100_001, 2**63):
        (tmp_path / "s.toml").write_text(study.format(seeds))
        with pytest.raises(PidSamplerError, match=f"seeds is {seeds}, expected 1\\.\\.100000, or a list"):
            read_study(tmp_path / "s.toml")


def _changed(change):
    data = get_scheduler("dpmpp-2m").table().to_dict()
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(rows=3), "rows=3 must be a list of rows"),
        (lambda d: d.update(rows=[3]), "not a table in JSON: a part is of another kind"),
        (lambda d: d["rows"][0].update(a=10**18 * 10), "row 0 .*: a constant image comes out"),
        (lambda d: d["rows"][0].update(a=1.7e308, b=1.7e308), "row 0 .*its weights are too large to be summed"),
        (lambda d: d["rows"][0].update(h="x"), "must be a list of pairs"),
        (lambda d: d["rows"][0].update(saves={"slot": 1}), "not a table in JSON: a part is of another kind"),
    ],
)
def test_a_table_of_wrong_kinds_or_sizes_is_said_in_a_line(change, message):
    with pytest.raises(PidSamplerError, match=message):
        StepTable.from_json(_changed(change))


def test_a_table_whose_check_would_not_end_is_refused():
    row = get_scheduler("flow-ode").table().to_dict()["rows"][0]
    rows = [{**row, "noise": [[i, 1e-9] for i in range(5000)]}, *[row] * 5000]
    with pytest.raises(PidSamplerError, match="a table of 5001 rows and 5000 noise draws is too large to check"):
        StepTable.from_json(json.dumps({"format": "pidsampler.StepTable/1", "rows": rows}))


def test_a_value_without_a_repr_is_shown_by_its_kind():
    from pidsampler.values import shown, whole

    nested = []
    for _ in range(10 * sys.getrecursionlimit()):
        nested = [nested]
    assert shown(nested) == "a list too large to show"
    with pytest.raises(PidSamplerError, match=r"n=a int too large to show must be a whole number in 1\.\.9"):
        whole("n", 10**5000, low=1, high=9)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_the_name_of_an_input_that_is_no_text_is_in_the_record(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff.png")
    Image.new("RGB", (8, 8)).save(path)
    record = json.dumps(Source.of(path).described)
    assert parse_json(record, expected="a record")["name"] == r"a\udcff.png"


def test_millions_of_digits_are_not_parsed_where_the_user_lifted_pythons_limit():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(PidSamplerError, match="a whole number of 2000000 digits"):
            parse_json("[" + "1" * 2_000_000 + "]", expected="a list")
    finally:
        sys.set_int_max_str_digits(before)
