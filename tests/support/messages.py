"""All messages of the package, collected from its source: `python tests/support/messages.py` lists them to be read.

A message is the text of an error that is made, of a warning, or of a line that is printed. What is filled in is `{}`.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pidsampler

ROOT = Path(pidsampler.__file__).parent
TOLD = ("warn", "say", "tell", "error", "exit")  # functions that show their text


class Message(NamedTuple):
    place: str  # file and line
    text: str


def messages():
    """Yield each message of the package."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _tells(ast.unparse(node.func).rpartition(".")[2]):
                for argument in node.args:
                    for text in filter(str.strip, _texts(argument)):
                        if re.search(r"[a-z]{2}", text.replace("{}", "")):
                            yield Message(f"{name}:{argument.lineno}", text)


def _tells(function):
    return function in TOLD or function.endswith(("Error", "Warning", "Fault"))


def _texts(node):
    """Yield the forms that a text may take, in which what is filled in is {}."""
    if isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else []
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = ([*_texts(side)] or ["{}"] for side in (node.left, node.right))
        yield from (a + b for a in left for b in right)
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


def sentences(text):
    """Yield the sentences of a text; code, between marks, is one word, and so is what is filled in."""
    text = re.sub(r"`+[^`]+`+", "CODE", text)
    for part in re.split(r"(?<=[.!?;:])\s+|\n\s*\n", text):
        yield [word for word in part.split() if re.search(r"\w|\{\}", word)]


if __name__ == "__main__":
    for message in messages():
        print(f"{message.place}\t{message.text}")
