"""Formulas and gradients: Python's expression syntax over NumPy arrays, evaluated by an allow-list.

An expression is parsed, checked, and then evaluated node by node. Only the operators and functions of
:mod:`harness.spec.expressions.functions` are called: there are no attributes, strings or comprehensions, and nothing is
compiled. Length, nodes, depth, integers and the size of every result are bounded. ``and``, ``or`` and ``not`` work
element by element, and a chain of comparisons is their conjunction.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from typing import Any

import numpy as np

from harness.errors import RequestError, StageError, one_line, shortened
from harness.spec.expressions.functions import (
    BINARY,
    COMPARISONS,
    CONSTANTS,
    FUNCTIONS,
    MAX_INTEGER,
    UNARY,
    Array,
    check_reduction,
    check_size,
    checked_operands,
    matmul,
)
from harness.spec.quoting import join_names, suggestion

Names = Mapping[str, Any]

MAX_LENGTH = 2000
MAX_SHOWN_LENGTH = 80
MAX_NODES = 400
MAX_DEPTH = 40
NUMBER_KINDS = "biuf" + "V"
"""NumPy's kinds of dtype that count as numbers; V is that of bfloat16."""

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

    def evaluate(self, names: Names) -> Array:
        """The value of the expression, with the value of each name from ``names``.

        Raises :class:`StageError` if the values do not fit together.
        """
        try:
            with np.errstate(all="ignore"):
                array: Array = _checked_numeric(np.asarray(_evaluate(self.tree, names)))
                return array
        except (TypeError, ValueError, LookupError, ArithmeticError, MemoryError) as error:
            reason = one_line(str(error))
            raise StageError(f"{_shown(self.text)}: cannot be evaluated: {reason}; correct the expression") from error


def compile_expression(text: str, names: Collection[str] | None = None) -> Expression:
    """``text`` as an expression that uses only ``names``, or any names if that is None.

    Raises :class:`RequestError` if ``text`` is not an expression of the language.
    """
    expression = _parsed(text)
    if names is not None:
        for name in _value_names(expression.tree):
            if name not in names and name not in CONSTANTS:
                allowed = [*names, *CONSTANTS]
                remedy = suggestion(name, allowed, f"the names are {join_names(sorted({*allowed}))}")
                raise RequestError(f"{_shown(text)}: unknown name {name}; {remedy}")
    return expression


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Expression:
    if len(text) > MAX_LENGTH:
        raise RequestError(f"an expression of {len(text)} characters; at most {MAX_LENGTH}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise RequestError(f"{_shown(text)}: not an expression: {reason}; write one as in Python") from None
    for message, remedy in _tree_problems(tree):
        raise RequestError(f"{_shown(text)}: {message}; {remedy}")
    return Expression(text, tree.body)


def _shown(text: str) -> str:
    """``text`` as it fits into a message."""
    return shortened(text, MAX_SHOWN_LENGTH)


def _value_names(tree: ast.expr) -> Iterator[str]:
    """The names of values in the tree, without the names of called functions."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    yield from (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called)


def _tree_problems(tree: ast.Expression) -> Iterator[tuple[str, str]]:
    """Each problem as its message and remedy. The walk is breadth first, so that no depth can exhaust the stack."""
    level: list[ast.AST] = [tree]
    for depth in range(MAX_DEPTH):
        if not level:
            break
        below = [child for node in level for child in ast.iter_child_nodes(node)]
        if len(below) > MAX_NODES:
            yield "too long", f"at most {MAX_NODES} operations"
            return
        if depth == MAX_DEPTH - 1 and below:
            yield "too deeply nested", f"at most {MAX_DEPTH} levels"
            return
        for node in level:
            yield from _node_problems(node)
        level = below


def _node_problems(node: ast.AST) -> Iterator[tuple[str, str]]:
    if not isinstance(node, ALLOWED):
        yield f"{type(node).__name__} is not allowed", "use arithmetic, comparisons, subscripts and functions"
    elif isinstance(node, ast.Constant):
        is_number = node.value is None or node.value is Ellipsis or isinstance(node.value, int | float)
        if not is_number:
            yield f"{type(node.value).__name__} is not allowed", "write numbers"
        elif isinstance(node.value, int) and node.value >= MAX_INTEGER:
            yield "a whole number beyond 64 bits", "write a float"
    elif isinstance(node, ast.Call):
        yield from _call_problems(node)


def _call_problems(node: ast.Call) -> Iterator[tuple[str, str]]:
    if not isinstance(node.func, ast.Name):
        yield "only functions by name can be called", f"the functions are {', '.join(FUNCTIONS)}"
        return
    name, function = node.func.id, FUNCTIONS.get(node.func.id)
    if function is None:
        yield f"unknown function {name}", suggestion(name, FUNCTIONS, f"the functions are {', '.join(FUNCTIONS)}")
        return
    if not function.min_arguments <= len(node.args) <= function.max_arguments:
        takes = f"{name} takes {function.min_arguments}"
        remedy = f"use {name}imum for two" if name in {"min", "max"} else takes
        plural = "argument" if len(node.args) == 1 else "arguments"
        yield f"{name} has {len(node.args)} {plural}", remedy
    for keyword in node.keywords:
        if keyword.arg not in function.keywords:
            allowed = ", ".join(sorted(function.keywords)) or "none"
            yield f"{name} takes no {keyword.arg or '**'}=", f"its keywords: {allowed}"


def _evaluate(node: ast.expr | None, names: Names) -> Any:
    """The value of ``node``, with the value of each name from ``names``.

    Raises whatever arithmetic on the values raises, and ``ValueError`` for a result of more than
    :data:`harness.spec.expressions.functions.MAX_ELEMENTS` elements before it is made.
    """
    if node is None:
        return None
    return _checked_numeric(_EVALUATORS[type(node)](node, names))


def _checked_numeric(value: Any) -> Any:
    """``value``, unless it is an array of Python objects: the size of those cannot be bounded."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in NUMBER_KINDS:
        raise TypeError("an array of values that are not numbers, or of whole numbers beyond 64 bits")
    return value


def _name(node: ast.Name, names: Names) -> Any:
    if node.id in names:
        return names[node.id]
    if node.id in CONSTANTS:
        return CONSTANTS[node.id]
    raise LookupError(f"unknown name {node.id}")


def _binary(node: ast.BinOp, names: Names) -> Any:
    left, right = _evaluate(node.left, names), _evaluate(node.right, names)
    if isinstance(node.op, ast.MatMult):
        return matmul(left, right)
    return BINARY[type(node.op)](*checked_operands(left, right))


def _unary(node: ast.UnaryOp, names: Names) -> Any:
    operand = _evaluate(node.operand, names)
    if isinstance(node.op, ast.Invert) and isinstance(operand, bool):
        return not operand
    return UNARY[type(node.op)](operand)


def _boolean(node: ast.BoolOp, names: Names) -> Any:
    logical = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
    values = [_evaluate(each, names) for each in node.values]
    return reduce(lambda left, right: logical(*checked_operands(left, right)), values)


def _comparison(node: ast.Compare, names: Names) -> Any:
    values = [_evaluate(each, names) for each in (node.left, *node.comparators)]
    pairs = zip(node.ops, values, values[1:], strict=False)
    results = [COMPARISONS[type(op)](*checked_operands(left, right)) for op, left, right in pairs]
    return results[0] if len(results) == 1 else reduce(np.logical_and, results)


def _call(node: ast.Call, names: Names) -> Any:
    assert isinstance(node.func, ast.Name), "checked before"
    arguments = [_evaluate(each, names) for each in node.args]
    keywords = {str(each.arg): _evaluate(each.value, names) for each in node.keywords}
    function = FUNCTIONS[node.func.id]
    if function.broadcasts:
        checked_operands(*arguments)
    elif function.keywords:
        check_reduction(arguments[0], keywords.get("axis"))
    return function.call(*arguments, **keywords)


def _sequence(nodes: Sequence[ast.expr], names: Names) -> list[Any]:
    """The values of ``nodes``, with a bound on their total size: some functions turn them into one array."""
    values, elements = [], 0
    for node in nodes:
        values.append(_evaluate(node, names))
        elements += _element_count(values[-1])
        check_size(elements)
    return values


def _element_count(value: Any) -> int:
    return sum(map(_element_count, value)) if isinstance(value, list | tuple) else int(np.size(value))


def _subscript(node: ast.Subscript, names: Names) -> Any:
    """``array[index]``. An index that holds arrays can give a result far larger than the array."""
    array, index = _evaluate(node.value, names), _evaluate(node.slice, names)
    if isinstance(array, np.ndarray):
        check_size(indexed_size(array.shape, index if isinstance(index, tuple) else (index,)))
    return array[index]


def indexed_size(shape: tuple[int, ...], index: tuple[Any, ...]) -> int:
    """The number of elements at ``index`` of an array of this shape; arbitrary if NumPy will refuse the index."""
    parts = [np.asarray(each) if isinstance(each, list | tuple | bool) else each for each in index]
    indexed_axes = sum(_axis_count(part) for part in parts)
    array_shapes: list[tuple[int, ...]] = []
    sliced, axis = 1, 0
    for part in parts:
        if part is Ellipsis:
            axes = max(len(shape) - indexed_axes, 0)
            sliced *= prod(shape[axis : axis + axes])
            axis += axes
        elif isinstance(part, slice):
            sliced *= len(range(*part.indices(shape[axis]))) if axis < len(shape) else 1
            axis += 1
        elif part is not None:
            array_shapes.append((int(np.count_nonzero(part)),) if _is_mask(part) else np.shape(part))
            axis += _axis_count(part)
    return prod(np.broadcast_shapes(*array_shapes)) * sliced * prod(shape[axis:])


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray | np.generic) and part.dtype == bool


def _axis_count(part: Any) -> int:
    """The number of array axes that one part of an index covers."""
    if part is None or part is Ellipsis:
        return 0
    return np.ndim(part) if _is_mask(part) else 1


_EVALUATORS: Mapping[type[ast.AST], Callable[[Any, Names], Any]] = {
    ast.Constant: lambda node, _: node.value,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.Call: _call,
    ast.Subscript: _subscript,
    ast.Slice: lambda node, names: slice(*(_evaluate(each, names) for each in (node.lower, node.upper, node.step))),
    ast.Tuple: lambda node, names: tuple(_sequence(node.elts, names)),
    ast.List: lambda node, names: _sequence(node.elts, names),
}
