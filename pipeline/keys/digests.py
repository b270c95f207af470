"""Digests of Python source that change if, and only if, what it does may change. Needs the standard library alone."""

import ast
import hashlib

# `kind` is the u of u"text", and `ctx` says how a name is used, which its place says already.
_NOT_MEANING = ("kind", "ctx", "type_comment", "type_ignores")


def digest_of_source(source: str) -> str:
    """Return the SHA-256 of what a source means, 64 hexadecimal digits: equal whatever comments and docstrings say.

    It is equal on all supported versions of Python, unlike that of `ast.dump`: Python 3.12 gave functions and classes
    the field `type_params` and ends some formats with an empty text, and 3.13 leaves empty fields out. So what is empty
    is always left out here, and constants are in ASCII (what `repr` takes for printable changes with Unicode).

    Raises:
        SyntaxError: If it is no Python.
    """
    return hashlib.sha256(_canonical(ast.parse(source)).encode()).hexdigest()


def _canonical(part: object) -> str:
    """Write a part of a syntax tree."""
    if isinstance(part, ast.AST):
        values = {name: getattr(part, name, None) for name in part._fields if name not in _NOT_MEANING}
        if isinstance(part, ast.JoinedStr):
            values["values"] = [text for text in part.values if getattr(text, "value", None) != ""]
        written = (f"{name}={_canonical(value)}" for name, value in values.items() if value is not None and value != [])
        return f"{type(part).__name__}({','.join(written)})"
    if isinstance(part, list):
        return f"[{','.join(_canonical(item) for item in part if not _is_remark(item))}]"
    return ascii(part)


def _is_remark(part: object) -> bool:
    """Tell whether a statement is a bare text, as docstrings are: it does nothing."""
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
