"""Formulas and gradients: Python's expression syntax over NumPy arrays, evaluated by an allow-list.

Nothing is compiled or called but what :mod:`harness.spec.functions` names: no attributes, no
strings, no comprehensions. Length, nodes, depth, integers and the size of every result are bounded.
``and``, ``or`` and ``not`` work element by element, and a chain of comparisons is their conjunction.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from harness.errors import RequestError, StageError
from harness.spec.evaluate import BINARY, COMPARISONS, LARGEST_INTEGER, UNARY, of_numbers, value
from harness.spec.functions import CONSTANTS, FUNCTIONS, Array
from harness.spec.nearest import listed_names, suggestion

LONGEST = 2000
LONGEST_SHOWN = 80
MOST_NODES = 400
DEEPEST = 40

STRUCTURE = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Subscript, ast.Slice)
ALLOWED = (
    *STRUCTURE,
    *(ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.List, ast.keyword, ast.And, ast.Or, ast.MatMult),
    *BINARY,
    *COMPARISONS,
    *UNARY,
)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that passed every check that needs no values."""

    text: str
    tree: ast.expr

    def evaluate(self, names: Mapping[str, Any]) -> Array:
        """The value of the expression where each name stands for what ``names`` gives it.

        Raises :class:`StageError` where the values do not fit together.
        """
        try:
            with np.errstate(all="ignore"):
                found: Array = of_numbers(np.asarray(value(self.tree, names)))
                return found
        except (TypeError, ValueError, LookupError, ArithmeticError, MemoryError) as error:
            said = " ".join(str(error).split())
            raise StageError(f"{_cut(self.text)}: cannot be evaluated: {said}; correct the expression") from error


def compile_expression(text: str, names: Collection[str] | None = None) -> Expression:
    """``text`` as an expression; ``names`` are those that it may use, any where None.

    Raises :class:`RequestError` for what is no expression of the language.
    """
    expression = _compiled(text)
    if names is not None:
        for name in _names(expression.tree):
            if name not in names and name not in CONSTANTS:
                known = [*names, *CONSTANTS]
                right = suggestion(name, known, f"known are {listed_names(sorted({*known}))}")
                raise RequestError(f"{_cut(text)}: {name} is not known here; {right}")
    return expression


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Expression:
    if len(text) > LONGEST:
        raise RequestError(f"an expression of {len(text)} characters; at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        said = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise RequestError(f"{_cut(text)}: not an expression: {said}; write one as in Python") from None
    for wrong, right in _objections(tree):
        raise RequestError(f"{_cut(text)}: {wrong}; {right}")
    return Expression(text, tree.body)


def _objections(tree: ast.Expression) -> Iterator[tuple[str, str]]:
    """What is wrong, the first first. Breadth first, so that no depth can exhaust the stack."""
    level: list[ast.AST] = [tree]
    for depth in range(DEEPEST):
        if not level:
            break
        below = [child for node in level for child in ast.iter_child_nodes(node)]
        if len(below) > MOST_NODES:
            yield "too long", f"at most {MOST_NODES} operations"
            return
        if depth == DEEPEST - 1 and below:
            yield "too deeply nested", f"at most {DEEPEST} levels"
            return
        for node in level:
            yield from _objections_to(node)
        level = below


def _objections_to(node: ast.AST) -> Iterator[tuple[str, str]]:
    if not isinstance(node, ALLOWED):
        yield f"{type(node).__name__} is not allowed", "use arithmetic, comparisons, subscripts and functions"
    elif isinstance(node, ast.Constant):
        number = node.value is None or node.value is Ellipsis or isinstance(node.value, int | float)
        if not number:
            yield f"{type(node.value).__name__} is not allowed", "write numbers"
        elif isinstance(node.value, int) and node.value >= LARGEST_INTEGER:
            yield "a whole number beyond 64 bits", "write a float"
    elif isinstance(node, ast.Call):
        yield from _objections_to_call(node)


def _objections_to_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    if not isinstance(node.func, ast.Name):
        yield "only functions by name can be called", f"known are {', '.join(FUNCTIONS)}"
        return
    name, function = node.func.id, FUNCTIONS.get(node.func.id)
    if function is None:
        yield f"{name} is no function here", suggestion(name, FUNCTIONS, f"known are {', '.join(FUNCTIONS)}")
        return
    if not function.least <= len(node.args) <= function.most:
        hint = f"use {name}imum for two" if name in {"min", "max"} else f"{name} takes {function.least}"
        yield f"{name} is given {len(node.args)} arguments", hint
    for keyword in node.keywords:
        if keyword.arg not in function.keywords:
            allowed = ", ".join(sorted(function.keywords)) or "none"
            yield f"{name} takes no {keyword.arg or '**'}=", f"its keywords: {allowed}"


def _names(tree: ast.expr) -> Iterator[str]:
    """The names of values; a function's name in a call is none."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    yield from (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called)


def _cut(text: str) -> str:
    """``text`` as it fits into a message."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
