"""The mutants: what cosmic-ray's operators make of a file, less what no test could or should notice."""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path

SEED = 17

_TURNED = {"Lt": "LtE GtE", "LtE": "Lt Gt", "Gt": "GtE LtE", "GtE": "Gt Lt", "Eq": "NotEq", "NotEq": "Eq"}
_COMPARISONS = [*_TURNED.items(), ("Is", "IsNot"), ("IsNot", "Is")]
OPERATORS: dict[str, tuple[str, ...]] = {
    "comparison": tuple(
        f"core/ReplaceComparisonOperator_{old}_{new}" for old, turned in _COMPARISONS for new in turned.split()
    ),
    "boolean": (
        "core/ReplaceTrueWithFalse",
        "core/ReplaceFalseWithTrue",
        "core/ReplaceAndWithOr",
        "core/ReplaceOrWithAnd",
        "core/AddNot",
        "core/ReplaceUnaryOperator_Delete_Not",
        "core/ReplaceUnaryOperator_Delete_Invert",
        "core/ReplaceBinaryOperator_BitAnd_BitOr",
        "core/ReplaceBinaryOperator_BitOr_BitAnd",
    ),
    "arithmetic": (
        "core/ReplaceBinaryOperator_Add_Sub",
        "core/ReplaceBinaryOperator_Sub_Add",
        "core/ReplaceBinaryOperator_Mul_Div",
        "core/ReplaceBinaryOperator_Div_Mul",
        "core/ReplaceBinaryOperator_FloorDiv_Mul",
        "core/ReplaceBinaryOperator_Mod_Mul",
        "core/ReplaceBinaryOperator_Pow_Mul",
        "core/ReplaceUnaryOperator_Delete_USub",
    ),
    "number": ("core/NumberReplacer",),
}
"""cosmic-ray's operators, by kind: each comparison turned, and moved by its bound; each condition turned; each sum."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One change of ``file``: line ``was`` in ``function`` reads ``now`` (both without indentation)."""

    file: str
    line: int
    function: str
    kind: str
    was: str
    now: str
    source: str

    @cached_property
    def key(self) -> str:
        """What identifies it, also after other lines moved."""
        parts = (self.file, self.function, self.was, self.now)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of ``file`` below ``root``, each once."""
    source = (root / file).read_text(encoding="utf-8")
    scopes = _Scopes(source)
    found = (
        mutant
        for kind, operators in OPERATORS.items()
        for operator in operators
        for place, text in _mutated(source, operator)
        if not scopes.is_left_out(place, operator) and (mutant := _mutant(file, kind, source, text, scopes))
    )
    return list({mutant.key: mutant for mutant in found}.values())


def sample(mutants: Iterable[Mutant], count: int) -> list[Mutant]:
    """``count`` of ``mutants``, drawn with a fixed seed, as many of each kind as there are.

    A mutant is drawn by its own hash, so that a change of the code replaces few mutants of the sample.
    """
    by_kind = defaultdict(list)
    for mutant in sorted(mutants, key=_draw):
        by_kind[mutant.kind].append(mutant)
    in_turn = chain.from_iterable(zip_longest(*(by_kind[kind] for kind in OPERATORS)))
    return [mutant for mutant in in_turn if mutant is not None][:count]


def _draw(mutant: Mutant) -> bytes:
    return hashlib.sha256(f"{SEED} {mutant.key}".encode()).digest()


def _mutated(source: str, operator_name: str) -> Iterator[tuple[Place, str]]:
    """Where ``operator_name`` can change ``source``, and the changed text."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator(operator_name)()
    places = (place for node in ast_nodes(get_ast(source)) for place, _ in operator.mutation_positions(node))
    for occurrence, place in enumerate(places):
        yield place, mutate_code(source, operator, occurrence)


def _mutant(file: str, kind: str, source: str, text: str, scopes: _Scopes) -> Mutant | None:
    """The mutant with ``text``; None where that is no Python, or the same program."""
    try:
        compile(text, file, "exec", dont_inherit=True)
    except SyntaxError:
        return None
    old, new = source.splitlines(), text.splitlines()
    index = next((index for index, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
    if index is None or ast.dump(ast.parse(text)) == scopes.dump:
        return None
    was, now = (" ".join(lines[index].split()) for lines in (old, new))
    if was.replace("*,", "/,") == now:  # cosmic-ray takes the mark between parameters for a product
        return None
    return Mutant(file, index + 1, scopes.function(index + 1), kind, was, now, text)


class _Scopes:
    """Which function a line is in, and which places hold no decision.

    Left out are annotations and aliases of types, decorators and asserts, ``strict=`` of a ``zip``, ``copy=`` of an
    ``astype``, and the open length of a ``reshape(-1)``, for which NumPy takes any negative number.
    """

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        self.dump = ast.dump(self._tree)
        self._functions: list[tuple[int, int, str]] = []
        self._left_out: list[tuple[Place, Place]] = []
        self._visit(self._tree, "")

    def function(self, line: int) -> str:
        """The qualified name of the innermost function or class around ``line``; empty outside of all."""
        around = [scope for scope in self._functions if scope[0] <= line <= scope[1]]
        return max(around)[2] if around else ""

    def is_left_out(self, place: Place, operator: str) -> bool:
        """True where a change at ``place`` decides nothing."""
        if operator.endswith("BitOr_BitAnd") and not self.function(place[0]):
            return True
        return any(start <= place < end for start, end in self._left_out)

    def _visit(self, node: ast.AST, within: str) -> None:
        for left_out in _undecided(node):
            self._left_out.append(_extent(left_out))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{within}.{node.name}" if within else node.name
            assert node.end_lineno is not None
            self._functions.append((node.lineno, node.end_lineno, within))
        for child in ast.iter_child_nodes(node):
            self._visit(child, within)


def _undecided(node: ast.AST) -> Sequence[ast.AST]:
    """The parts of ``node`` that decide nothing."""
    match node:
        case ast.FunctionDef(returns=returns, decorator_list=decorators):
            return [*decorators, *([returns] if returns else [])]
        case ast.ClassDef(decorator_list=decorators):
            return decorators
        case ast.arg(annotation=ast.AST() as annotation) | ast.AnnAssign(annotation=annotation):
            return [annotation]
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Assert():
            return [node]
        case ast.Call(func=ast.Name(id="zip"), keywords=keywords):
            return [keyword for keyword in keywords if keyword.arg == "strict"]
        case ast.Call(func=ast.Attribute(attr="reshape"), args=[ast.UnaryOp() as length]):
            return [length]
        case ast.Call(func=ast.Attribute(attr="astype"), keywords=keywords):
            return [keyword for keyword in keywords if keyword.arg == "copy"]
    return []


def _extent(node: ast.AST) -> tuple[Place, Place]:
    assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
