"""What an error tells a person is read by a test.

Of the constant text of each `found`, some part that no other error has must stand in a literal of a test. So a test
that merely expects an error of some kind does not count. What an error is told by the function that makes it, such as
`f"{key}: {value}"`, has no text of its own, and is not counted.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PROJECT

NUM_LETTERS = 12  # of a message that a test must repeat; all of it where it is shorter


class Text:
    """An expression that is told, and the function that it stands in.

    Attributes:
        names: The variables in it.
        pieces: The lines of its constant text, and of what the function gave to these variables.
    """

    def __init__(self, path: Path, function: ast.FunctionDef, value: ast.expr) -> None:
        self.path, self.function, self.value = path, function, value
        self.names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
        given = (node for node in ast.walk(function) if isinstance(node, ast.Assign))
        variables = [node.value for node in given if {ast.unparse(target) for target in node.targets} & self.names]
        self.pieces = [piece for part in (value, *variables) for piece in pieces_of(part)]
        self.num_letters = max(map(len, self.pieces), default=0)

    def parts(self) -> set[str]:
        """Return what a test may repeat of it: as many letters in a row as there must be."""
        length = min(NUM_LETTERS, self.num_letters)
        return {piece[i : i + length] for piece in self.pieces for i in range(len(piece) - length + 1)}


def texts() -> list[Text]:
    """Return what each error of the pipeline says; if a function is told what, all that calls of it tell."""
    calls = list(calls_of_the_pipeline())
    found = [
        Text(path, function, given.value)
        for path, function, call in calls
        for given in call.keywords
        if given.arg == "found"
    ]
    by_name = defaultdict(list)
    for path, function, call in calls:
        by_name[ast.unparse(call.func).split(".")[-1]].append((path, function, call))
    return [text for text in found if text.num_letters >= NUM_LETTERS] + [
        given
        for text in found
        if text.num_letters < NUM_LETTERS
        for path, function, call in by_name[text.function.name]
        if path == text.path or not text.function.name.startswith("_")
        for given in (Text(path, function, value) for value in arguments(call, text))
        if " " in "".join(given.pieces)  # words, not a key or a path
    ]


def calls_of_the_pipeline() -> Iterator[tuple[Path, ast.FunctionDef, ast.Call]]:
    for path in sorted((PROJECT / "pipeline").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                yield from ((path, function, node) for node in ast.walk(function) if isinstance(node, ast.Call))


def arguments(call: ast.Call, text: Text) -> Iterator[ast.expr]:
    """Yield what a call gives to those parameters of a text's function that stand in the text."""
    defined = text.function.args
    parameters = [argument.arg for argument in defined.args + defined.kwonlyargs if argument.arg != "self"]
    yield from (value for parameter, value in zip(parameters, call.args, strict=False) if parameter in text.names)
    yield from (keyword.value for keyword in call.keywords if keyword.arg in text.names & {*parameters})


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
    assert len(told) > 100
    assert unread == []
