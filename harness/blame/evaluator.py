"""Evaluate an ONNX file with ``onnx.reference``, with the operators of :mod:`harness.blame.operators` in its place.

The evaluation of a file in float64 is believed for the operators and versions in ``believed.json``, at which it agrees
with an independent runtime. ``python -m benchmarks.operator_sweep`` makes the table, and ``reports/operators.md`` says
how.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto
from onnx.defs import SchemaError, get_schema
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from harness.blame.evaluated_model import function_with_float64, in_order, to_float64, with_float32, with_float64
from harness.blame.operators.conversions import CONVERSION_OPERATORS
from harness.blame.operators.detection import DETECTION_OPERATORS
from harness.blame.operators.microsoft_fused import MICROSOFT_FUSED_OPERATORS
from harness.blame.operators.microsoft_quantized import MICROSOFT_QUANTIZED_OPERATORS
from harness.blame.operators.normalization import NORMALIZATION_OPERATORS
from harness.blame.operators.pooling import POOLING_OPERATORS
from harness.blame.operators.recurrent import RECURRENT_OPERATORS
from harness.blame.operators.resizing import RESIZING_OPERATORS
from harness.blame.operators.sampling import SAMPLING_OPERATORS
from harness.data_files.onnx_files import all_nodes

Array = NDArray[Any]
Answer = Mapping[str, Array]

OPERATORS: tuple[type[OpRun], ...] = (
    *CONVERSION_OPERATORS,
    *DETECTION_OPERATORS,
    *MICROSOFT_FUSED_OPERATORS,
    *MICROSOFT_QUANTIZED_OPERATORS,
    *NORMALIZATION_OPERATORS,
    *POOLING_OPERATORS,
    *RECURRENT_OPERATORS,
    *RESIZING_OPERATORS,
    *SAMPLING_OPERATORS,
)
"""For ``new_ops`` of :class:`onnx.reference.ReferenceEvaluator`."""

MAX_SHOWN = 5
"""How many operators a line of evidence names."""

TABLE = Path(__file__).with_name("believed.json")


@dataclass
class _Work:
    """What evaluations have done, and how much they may do."""

    max_multiplications: int
    max_bytes: int
    multiplications: int = 0
    bytes: int = 0

    def counting(self, operator: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """``run``, the operator's own, with its work counted. Raises :class:`EvaluationTooLarge` beyond the limits."""

        def counted(*inputs: Any, **named: Any) -> Any:
            outputs = run(*inputs, **named)
            arrays = [output for output in outputs if isinstance(output, np.ndarray)]
            self.bytes += sum(array.nbytes for array in arrays)
            self.multiplications += _multiplications(operator, inputs, arrays)
            if self.multiplications > self.max_multiplications:
                raise EvaluationTooLarge(f"it needs more than {self.max_multiplications:,} multiplications")
            if self.bytes > self.max_bytes:
                raise EvaluationTooLarge(f"its values have more than {self.max_bytes:,} bytes")
            return outputs

        return counted


class EvaluationTooLarge(Exception):
    """An evaluation would take too long, or too much memory. The limits count work, so that no clock decides."""


_LIMITS: ContextVar[tuple[int, int] | None] = ContextVar("limits of an evaluation", default=None)


@contextmanager
def limited_work(max_multiplications: int, max_bytes: int) -> Iterator[None]:
    """Each evaluation in the block raises :class:`EvaluationTooLarge` where it exceeds a limit, at the next node."""
    token = _LIMITS.set((max_multiplications, max_bytes))
    try:
        yield
    finally:
        _LIMITS.reset(token)


def _multiplications(operator: str, inputs: Sequence[Any], outputs: Sequence[Array]) -> int:
    if not outputs or operator not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        return sum(output.size for output in outputs)
    first, second, output = inputs[0], inputs[1], outputs[0]
    match operator:
        case "Conv":
            return int(output.size * np.prod(second.shape[1:]))
        case "ConvTranspose":
            return int(first.size * np.prod(second.shape[1:]))
        case "Gemm":  # (m, k) by (k, n), either of them transposed or not
            return math.isqrt(first.size * second.size * output.size)
        case _:
            return int(output.size * first.shape[-1])


class FileDtypesEvaluator(ReferenceEvaluator):
    """An evaluator that takes harness's operators in subgraphs and functions too, where onnx takes its own."""

    def __init__(self, proto: Any, *positional: Any, **named: Any) -> None:
        super().__init__(proto, *positional, **{**named, "new_ops": list(OPERATORS)})
        if (limits := _LIMITS.get()) is not None:
            work = _Work(*limits)
            for node in self.rt_nodes_:
                node.run = work.counting(node.op_type, node.run)


class Float64Evaluator(FileDtypesEvaluator):
    """As above, for models in float64: an operator that ONNX defines by a function does not cast to float32 in it."""

    def __init__(self, proto: Any, *positional: Any, **named: Any) -> None:
        wide = function_with_float64(proto) if isinstance(proto, FunctionProto) else proto
        super().__init__(wide, *positional, **named)


def evaluate(path: Path, inputs: Answer) -> dict[str, Array]:
    """The graph's outputs by name, with every floating tensor in float64.

    Raises what the evaluator raises for an operator that it does not know.
    """
    return evaluate_model(onnx.load(str(path)), inputs)


def evaluate_model(model: ModelProto, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, for a model in memory, which is left as it is."""
    copy = with_float64(model)
    return _outputs(Float64Evaluator, copy, {name: to_float64(values) for name, values in inputs.items()})


def evaluate_all(path: Path, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, for every value that a node of the graph computes, in the order of computation."""
    return evaluation_of_all(path)(inputs)


def evaluation_of_all(path: Path) -> Callable[[Answer], dict[str, Array]]:
    """:func:`evaluate_all` of one file for several inputs. The limits of work hold for all of them together."""
    model = onnx.load(str(path))
    if model.functions:
        model = inline_local_functions(model)
    named = {name for node in model.graph.node for name in node.output if name}
    in_order(model)
    evaluator = Float64Evaluator(with_float64(model))
    computed = [name for node in model.graph.node for name in node.output if name in named]

    def evaluated(inputs: Answer) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            values = evaluator.run(None, {name: to_float64(array) for name, array in inputs.items()}, intermediate=True)
        return {name: np.asarray(values[name]) for name in computed}

    return evaluated


def evaluate_in_file_dtypes(path: Path, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, in the file's own dtypes, with every rounding that the graph itself asks for."""
    return _outputs(FileDtypesEvaluator, onnx.load(str(path)), inputs)


def evaluate_in_float32(path: Path, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate_in_file_dtypes`, with float32 in place of the floating types of 16 bits."""
    return _outputs(FileDtypesEvaluator, with_float32(onnx.load(str(path))), inputs)


def _outputs(evaluator: type[ReferenceEvaluator], model: ModelProto, inputs: Answer) -> dict[str, Array]:
    in_order(model)
    with np.errstate(all="ignore"):
        outputs = evaluator(model).run(None, dict(inputs))
    return dict(zip((output.name for output in model.graph.output), outputs, strict=True))


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
