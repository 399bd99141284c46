"""The value of an expression's tree over NumPy arrays; the tree has passed :mod:`harness.spec.language.expressions`'s checks.

Formulas and gradients: Python's expression syntax over NumPy arrays, evaluated by an allow-list.

Nothing is compiled or called but what :mod:`harness.spec.language.functions` names: no attributes, no
strings, no comprehensions. Length, nodes, depth, integers and the size of every result are bounded.
``and``, ``or`` and ``not`` work element by element, and a chain of comparisons is their conjunction.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from typing import Any

import numpy as np

from harness.errors import RequestError, StageError
from harness.spec.language.functions import CONSTANTS, FUNCTIONS, Array
from harness.spec.quoting import listed_names, suggestion

Names = Mapping[str, Any]

LARGEST_INTEGER = 2**63
MOST_ELEMENTS = 2**26
MOST_PRODUCTS = 2**36
"""Of a matrix product: what a machine multiplies within seconds."""


def _power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``; of two whole numbers exactly where that stays small, else in floating point."""
    if isinstance(base, int) and isinstance(exponent, int):
        is_small = abs(base) < LARGEST_INTEGER and 0 <= exponent <= 64
        return base**exponent if is_small else np.float64(base) ** np.float64(exponent)
    return operator.pow(base, exponent)


NUMBERS = "biuf" + "V"
"""Kinds of dtype; V is that of bfloat16, to NumPy."""
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: np.invert,
    ast.Not: np.logical_not,
}


def value(node: ast.expr | None, names: Names) -> Any:
    """What ``node`` comes to where each name stands for what ``names`` gives it.

    Raises whatever arithmetic on the values raises, and ``ValueError`` for a result beyond :data:`MOST_ELEMENTS`,
    before it is made.
    """
    if node is None:
        return None
    return of_numbers(_NODES[type(node)](node, names))


def of_numbers(found: Any) -> Any:
    """``found``, where it is no array of Python's own objects, which have no size that could be bounded."""
    if isinstance(found, np.ndarray | np.generic) and found.dtype.kind not in NUMBERS:
        raise TypeError("an array of something that is no number, or of whole numbers beyond 64 bits")
    return found


def _named(node: ast.Name, names: Names) -> Any:
    if node.id in names:
        return names[node.id]
    if node.id in CONSTANTS:
        return CONSTANTS[node.id]
    raise LookupError(f"{node.id} is not known here")


def _binary(node: ast.BinOp, names: Names) -> Any:
    left, right = value(node.left, names), value(node.right, names)
    if isinstance(node.op, ast.MatMult):
        return _matmul(left, right)
    return BINARY[type(node.op)](*_bounded(left, right))


def _unary(node: ast.UnaryOp, names: Names) -> Any:
    operand = value(node.operand, names)
    if isinstance(node.op, ast.Invert) and isinstance(operand, bool):
        return not operand
    return UNARY[type(node.op)](operand)


def _joined(node: ast.BoolOp, names: Names) -> Any:
    join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
    return reduce(lambda left, right: join(*_bounded(left, right)), [value(each, names) for each in node.values])


def _compared(node: ast.Compare, names: Names) -> Any:
    values = [value(each, names) for each in (node.left, *node.comparators)]
    pairs = zip(node.ops, values, values[1:], strict=False)
    held = [COMPARISONS[type(op)](*_bounded(left, right)) for op, left, right in pairs]
    return held[0] if len(held) == 1 else reduce(np.logical_and, held)


def _called(node: ast.Call, names: Names) -> Any:
    assert isinstance(node.func, ast.Name), "checked before"
    given = [value(each, names) for each in node.args]
    keywords = {str(each.arg): value(each.value, names) for each in node.keywords}
    function = FUNCTIONS[node.func.id]
    if node.func.id == "matmul":
        return _matmul(*given)
    if function.broadcasts:
        _bounded(*given)
    elif function.keywords:
        _bounded_along(given[0], keywords.get("axis"))
    return function.call(*given, **keywords)


def _several(nodes: Sequence[ast.expr], names: Names) -> list[Any]:
    """The values of ``nodes``, which some functions make one array of."""
    found, elements = [], 0
    for node in nodes:
        found.append(value(node, names))
        elements += _elements(found[-1])
        _check(elements)
    return found


def _part(node: ast.Subscript, names: Names) -> Any:
    """``array[index]``. Where arrays stand in the index, the result may be far larger than the array."""
    whole, index = value(node.value, names), value(node.slice, names)
    if isinstance(whole, np.ndarray):
        _check(indexed(whole.shape, index if isinstance(index, tuple) else (index,)))
    return whole[index]


def indexed(shape: tuple[int, ...], index: tuple[Any, ...]) -> int:
    """How many elements there are at ``index``; any number where NumPy will refuse it."""
    parts = [np.asarray(each) if isinstance(each, list | tuple | bool) else each for each in index]
    taken = sum(_axes(part) for part in parts)
    arrays: list[tuple[int, ...]] = []
    kept, axis = 1, 0
    for part in parts:
        if part is Ellipsis:
            axes = max(len(shape) - taken, 0)
            kept *= prod(shape[axis : axis + axes])
            axis += axes
        elif isinstance(part, slice):
            kept *= len(range(*part.indices(shape[axis]))) if axis < len(shape) else 1
            axis += 1
        elif part is not None:
            arrays.append((int(np.count_nonzero(part)),) if _is_mask(part) else np.shape(part))
            axis += _axes(part)
    return prod(np.broadcast_shapes(*arrays)) * kept * prod(shape[axis:])


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray | np.generic) and part.dtype == bool


def _axes(part: Any) -> int:
    """How many axes of an array a part of an index speaks of."""
    if part is None or part is Ellipsis:
        return 0
    return np.ndim(part) if _is_mask(part) else 1


_NODES: Mapping[type[ast.AST], Callable[[Any, Names], Any]] = {
    ast.Constant: lambda node, _: node.value,
    ast.Name: _named,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _joined,
    ast.Compare: _compared,
    ast.Call: _called,
    ast.Subscript: _part,
    ast.Slice: lambda node, names: slice(*(value(each, names) for each in (node.lower, node.upper, node.step))),
    ast.Tuple: lambda node, names: tuple(_several(node.elts, names)),
    ast.List: lambda node, names: _several(node.elts, names),
}


def _matmul(left: Any, right: Any) -> Any:
    one, other = np.shape(left), np.shape(right)
    rows, columns = one[-2:-1], other[-1:] if len(other) > 1 else ()
    elements = prod((*np.broadcast_shapes(one[:-2], other[:-2]), *rows, *columns))
    _check(elements)
    if elements * prod(one[-1:]) > MOST_PRODUCTS:
        raise ValueError(f"more than {MOST_PRODUCTS} products of elements")
    return np.matmul(left, right)


def _bounded_along(array: Any, axis: Any) -> None:
    """What is left of ``array`` without an axis; where that has no elements, as many as its other axes have."""
    shape = np.shape(array)
    axes = {*(axis if isinstance(axis, tuple | list) else (axis,))}
    if axis is not None and all(isinstance(each, int) for each in axes):
        _check(prod(size for at, size in enumerate(shape) if not {at, at - len(shape)} & axes))


def _bounded(*operands: Any) -> tuple[Any, ...]:
    """``operands`` as they are; tuples and strings, which Python would repeat, are refused."""
    for each in operands:
        if isinstance(each, list | tuple | str) or each is None:
            raise TypeError(f"{type(each).__name__} is not a number or an array")
    _check(prod(np.broadcast_shapes(*(np.shape(each) for each in operands))))
    return operands


def _elements(found: Any) -> int:
    return sum(map(_elements, found)) if isinstance(found, list | tuple) else int(np.size(found))


def _check(elements: int) -> None:
    if elements > MOST_ELEMENTS:
        raise ValueError(f"a result of more than {MOST_ELEMENTS} elements")


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
