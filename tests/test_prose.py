"""What users read of the code: sentences of at most 25 words, and one spelling of each word."""

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


BRITISH = (
    r"colour|neighbour|honour|favour|behaviour|(?:normal|quant|recogn|minim|optim|general|initial|organ|serial)is(?:e|i|a)"
    r"|grey|artefact|judgement|\btowards|dynamic programme"
)


def test_words_are_spelled_as_in_the_united_states():
    """As the parameters are; but in old names, and in a kernel's own."""
    pages = [*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*.md"), *ROOT.rglob("*.py")]
    found = {}
    for path in pages:
        text = path.read_text("utf-8")
        if path.suffix == ".md":
            text = re.sub(r"`[^`]*`", "", text)
        found[path.name] = {word.lower() for word in re.findall(BRITISH, text, re.IGNORECASE)}
    assert {name: words for name, words in found.items() if words} == {"moved.py": {"colour"}, "blocks.py": {"colour"}}


def test_license_is_spelled_so_in_what_is_said():
    """`licence` stays a key of files, for those of 0.1."""
    pages = [*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*.md")]
    texts = {path.name: re.sub(r"`[^`]*`", "", path.read_text("utf-8")) for path in pages}
    texts |= {message.place: message.text for message in messages() if "both licence and" not in message.text}
    assert [name for name, text in texts.items() if re.search(r"\blicence", text, re.IGNORECASE)] == []
