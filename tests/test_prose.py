"""What users read of the code: sentences of at most 25 words, and one color's spelling."""

import inspect
import re
import sys

import pytest
from messages import ROOT, messages, sentences
from paths import REPOSITORY

sys.path.append(str(REPOSITORY / "docs"))
import reference

ENTRIES = {entry.path: entry for entry in reference.entries()}
MOST = 25


def too_long(text):
    return [" ".join(words) for words in sentences(text) if len(words) > MOST]


def parts(docstring):
    """Yield a docstring's paragraphs and entries, without its formulas."""
    text = re.sub(r"^ {4}\S.*[=].*\n", "", docstring, flags=re.MULTILINE) if "Args:" not in docstring else docstring
    for part in re.split(r"\n\s*\n|\n(?= *\*{0,2}\w+: )|\n(?= *- )|\n(?=\w+:\n)", text):
        yield re.sub(r"^ *\*{0,2}\w+: ", "", part)


def test_a_sentence_that_is_long_is_found():
    words = "word " * 25
    assert too_long(f"{words}word.") == [f"{words}word."]
    assert too_long(f"{words}. {words}: {words}; `{words} code` is one word.") == []
    assert [*parts("Sum of two.\n\nArgs:\n    x: One.\n    y: The\n        other.\n")][1:] == [
        "Args:",
        "One.",
        "The\n        other.\n",
    ]


def test_messages_are_found_and_short():
    found = [*messages()]
    assert len(found) > 700
    assert len({message.place.partition(":")[0] for message in found}) > 150
    assert [(message.place, long) for message in found for long in too_long(message.text)] == []


def test_messages_are_lines_that_go_on_from_what_is_before():
    """They stand behind "pidsampler: error:", or a file's name: no full stop, and no sentence of its own manners."""
    words = r"invalid|illegal|oops|sorry|please(?! report)"
    for message in messages():
        assert not message.text.endswith("."), message
        assert not re.search(rf"\b(?:{words})\b", message.text, re.IGNORECASE), message


@pytest.mark.parametrize("path", [path for path, entry in ENTRIES.items() if not entry.is_value])
def test_public_docstrings_are_short_sentences(path):
    thing = ENTRIES[path].thing
    things = {path: thing}
    if inspect.isclass(thing):
        things |= {f"{path}.{name}": member for name, member in reference.members(thing)}
    long = {
        name: [s for part in parts(inspect.getdoc(each) or "") for s in too_long(part)] for name, each in things.items()
    }
    assert {name: found for name, found in long.items() if found} == {}


def test_color_has_one_spelling():
    """As its parameter has; but in old names, and in a kernel's own."""
    pages = [*REPOSITORY.glob("docs/*.md"), REPOSITORY / "README.md", *ROOT.rglob("*.py")]
    found = [path.name for path in pages if re.search(r"\bcolour", path.read_text("utf-8"), re.IGNORECASE)]
    assert {*found} <= {"moved.py", "blocks.py"}
