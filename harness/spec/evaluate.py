"""The value of an expression's tree over NumPy arrays; the tree has passed :mod:`harness.spec.expression`'s checks."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from harness.spec.functions import CONSTANTS, FUNCTIONS

Names = Mapping[str, Any]

LARGEST_INTEGER = 2**63
MOST_ELEMENTS = 2**26


def _power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``; of two whole numbers exactly where that stays small, else in floating point."""
    if isinstance(base, int) and isinstance(exponent, int):
        is_small = abs(base) < LARGEST_INTEGER and 0 <= exponent <= 64
        return base**exponent if is_small else np.float64(base) ** np.float64(exponent)
    return operator.pow(base, exponent)


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

    Raises whatever arithmetic on the values raises, and ``ValueError`` for a result beyond :data:`MOST_ELEMENTS`.
    """
    return None if node is None else _NODES[type(node)](node, names)


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
    if node.func.id == "matmul":
        return _matmul(*given)
    function = FUNCTIONS[node.func.id]
    if function.broadcasts:
        _bounded(*given)
    return function.call(*given, **{str(each.arg): value(each.value, names) for each in node.keywords})


_NODES: Mapping[type[ast.AST], Callable[[Any, Names], Any]] = {
    ast.Constant: lambda node, _: node.value,
    ast.Name: _named,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _joined,
    ast.Compare: _compared,
    ast.Call: _called,
    ast.Subscript: lambda node, names: value(node.value, names)[value(node.slice, names)],
    ast.Slice: lambda node, names: slice(*(value(each, names) for each in (node.lower, node.upper, node.step))),
    ast.Tuple: lambda node, names: tuple(value(each, names) for each in node.elts),
    ast.List: lambda node, names: [value(each, names) for each in node.elts],
}


def _matmul(left: Any, right: Any) -> Any:
    one, other = np.shape(left), np.shape(right)
    if len(one) > 1 and len(other) > 1 and prod(one[:-1]) * other[-1] > MOST_ELEMENTS:
        raise ValueError(f"a result of more than {MOST_ELEMENTS} elements")
    return np.matmul(left, right)


def _bounded(*operands: Any) -> tuple[Any, ...]:
    """``operands`` as they are; tuples and strings, which Python would repeat, are refused."""
    for each in operands:
        if isinstance(each, list | tuple | str) or each is None:
            raise TypeError(f"{type(each).__name__} is not a number or an array")
    if prod(np.broadcast_shapes(*(np.shape(each) for each in operands))) > MOST_ELEMENTS:
        raise ValueError(f"a result of more than {MOST_ELEMENTS} elements")
    return operands
