"""What an error tells a person is read by a test.

Of the constant text of each `found`, some part that no other error has must stand in a literal of a test. So a test
that merely expects an error of some kind does not count.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PROJECT

NUM_LETTERS = 12  # of a message that a test must repeat; all of it where it is shorter


@dataclass(frozen=True)
class Text:
    """An expression that is told, and the function that it stands in."""

    path: Path
    function: ast.FunctionDef
    value: ast.expr

    @property
    def names(self) -> set[str]:
        return {node.id for node in ast.walk(self.value) if isinstance(node, ast.Name)}

    @property
    def pieces(self) -> list[str]:
        """The lines of its constant text, and of what the function gave to the variables in it."""
        given = (node for node in ast.walk(self.function) if isinstance(node, ast.Assign))
        variables = [node.value for node in given if {ast.unparse(target) for target in node.targets} & self.names]
        return [piece for value in (self.value, *variables) for piece in pieces_of(value)]

    @property
    def num_letters(self) -> int:
        return max(map(len, self.pieces), default=0)

    def parts(self) -> set[str]:
        """Return what a test may repeat of it: as many letters in a row as there must be."""
        length = min(NUM_LETTERS, self.num_letters)
        return {piece[i : i + length] for piece in self.pieces for i in range(len(piece) - length + 1)}


def texts() -> list[Text]:
    """Return what each error of the pipeline says; if a function is told what, all that calls of it tell."""
    calls = [(path, function, call) for path, function in functions() for call in calls_in(function)]
    found = [
        Text(path, function, given.value)
        for path, function, call in calls
        for given in call.keywords
        if given.arg == "found"
    ]
    whole = [text for text in found if text.num_letters >= NUM_LETTERS]
    return whole + [
        given
        for text in found
        for path, function, call in calls
        if text not in whole and is_call_of(call, text, path)
        for given in (Text(path, function, value) for value in arguments(call, text))
        if " " in "".join(given.pieces)  # words, not a key or a path
    ]


def is_call_of(call: ast.Call, text: Text, path: Path) -> bool:
    """Tell whether a call is one of the function that a text stands in."""
    name = text.function.name
    return ast.unparse(call.func).split(".")[-1] == name and (path == text.path or not name.startswith("_"))


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in sorted((PROJECT / "pipeline").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def arguments(call: ast.Call, text: Text) -> Iterator[ast.expr]:
    """Yield what a call gives to those parameters of a text's function that stand in the text."""
    defined = text.function.args
    parameters = [argument.arg for argument in defined.args + defined.kwonlyargs if argument.arg != "self"]
    yield from (value for parameter, value in zip(parameters, call.args, strict=False) if parameter in text.names)
    yield from (keyword.value for keyword in call.keywords if keyword.arg in text.names & {*parameters})


def calls_in(function: ast.FunctionDef) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call)]


def pieces_of(tree: ast.AST) -> list[str]:
    """Return the lines of the constant text in some code."""
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [line.strip() for text in constants if isinstance(text, str) for line in text.splitlines() if line.strip()]


def literals() -> str:
    """Return all text in the code of tests, as it is before it becomes a pattern."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return "\n".join(piece for tree in trees for piece in pieces_of(tree)).replace("\\", "")


def test_every_message_is_read_by_a_test() -> None:
    told, read = texts(), literals()
    counted = Counter(part for text in told for part in text.parts())
    unread = []
    for text in told:
        own = {part for part in text.parts() if counted[part] == 1} or text.parts()
        if not any(part in read for part in own):
            unread.append(f"{text.path.relative_to(PROJECT)}:{text.value.lineno} {text.pieces}")
    assert len(told) > 150
    assert unread == []
