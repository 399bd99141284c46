"""For which operators the float64 evaluation of a file is believed.

The table ``believed.json`` holds the operators and versions at which the evaluation agrees with an independent
runtime. ``python -m benchmarks.operator_sweep`` makes it, and ``reports/operators.md`` says how.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import onnx
from onnx import ModelProto
from onnx.defs import SchemaError, get_schema

from harness.blame.evaluated_model import all_nodes

MAX_SHOWN = 5
"""How many operators a line of evidence names."""

TABLE = Path(__file__).with_name("believed.json")


def believed_versions(domain: str, operator: str) -> Sequence[int]:
    """The versions of an operator, each by the opset that introduced it, for which the evaluation is believed."""
    return _table().get(domain, {}).get(operator, ())


def not_believed(path: Path) -> tuple[str, ...]:
    """The operators of the file at ``path`` for which the evaluation is not believed, in words, each once."""
    model = onnx.load(str(path), load_external_data=False)
    functions = {(function.domain, function.name) for function in model.functions}
    found = {
        f"{domain + '.' if domain else ''}{operator} (opset {version})": None
        for domain, operator, version in _operators(model)
        if (domain, operator) not in functions and version not in believed_versions(domain, operator)
    }
    return tuple(found)


def not_believed_reason(path: Path) -> str | None:
    """Why nobody is blamed by the evaluation of the file at ``path``; None if it is believed for all its operators."""
    operators = not_believed(path)
    if not operators:
        return None
    shown = ", ".join(operators[:MAX_SHOWN]) + (
        f" and {len(operators) - MAX_SHOWN} more" if operators[MAX_SHOWN:] else ""
    )
    return f"the evaluation of the file decides nothing: no other runtime has confirmed it for {shown}"


def _operators(model: ModelProto) -> Iterator[tuple[str, str, int]]:
    """Domain, name and version of each node, those of subgraphs and functions included."""
    for holder, nodes in ((model, model.graph.node), *((function, function.node) for function in model.functions)):
        opsets = {_domain(entry.domain): entry.version for entry in holder.opset_import}
        for node in all_nodes(nodes):
            domain = _domain(node.domain)
            yield domain, node.op_type, _version(domain, node.op_type, opsets.get(domain, 1))


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


@cache
def _version(domain: str, operator: str, opset: int) -> int:
    """The opset that introduced the operator as ``opset`` has it; 1 for operators that onnx does not define."""
    try:
        return int(get_schema(operator, opset, domain).since_version)
    except SchemaError:
        return 1


@cache
def _table() -> Mapping[str, Mapping[str, Sequence[int]]]:
    table: dict[str, dict[str, list[int]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return {domain: operators for domain, operators in table.items() if domain != "compared_with"}
