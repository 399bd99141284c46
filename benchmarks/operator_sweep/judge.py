"""Evaluate one small model in float64 and with ONNX Runtime, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from benchmarks.operator_sweep.models.case import Case
from harness.blame.evaluated_model import to_float64, with_float64
from harness.blame.evaluator import evaluate_model
from harness.blame.file_runs import error_summary
from harness.runtimes.onnxruntime.session import from_ort_value, to_ort_value

Array = NDArray[Any]
State = Literal["agree", "disagree", "not runnable", "not evaluated"]

TOLERANCES = {"float32": (1e-4, 1e-5), "float16": (5e-3, 2e-3), "bfloat16": (3e-2, 2e-2), "float64": (1e-9, 1e-11)}
"""By dtype of ONNX Runtime's output: relative to the value, and relative to the largest value of the output."""

LOOSEST = (3e-1, 1e-1)
"""For the 8-bit and 4-bit floating types, whose neighbours are that far apart."""

ONE_CODE_OFF = ("Quant", "QLinear", "QGemm")
"""Operators whose outputs are rounded to codes: one in twenty may differ by one, which float32 decides."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one model, and why; ``float64`` is whether ONNX Runtime's kernel for float64 agrees to 1e-9."""

    case: str
    state: State
    reason: str = ""
    float64: bool | None = None


def judge(case: Case) -> Outcome:
    """Evaluate the model, run it unoptimized, and compare."""
    try:
        expected = run_unoptimized(case.model, case.inputs)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises kinds of its own
        return Outcome(case.name, "not runnable", error_summary(error))
    try:
        actual = list(evaluate_model(case.model, case.inputs).values())
    except Exception as error:  # noqa: BLE001 - an evaluation may fail in any way
        return Outcome(case.name, "not evaluated", error_summary(error))
    codes = any(word in case.node.op_type for word in ONE_CODE_OFF)
    problem = difference(actual, expected, codes=codes)
    if problem:
        return Outcome(case.name, "disagree", problem)
    return Outcome(case.name, "agree", float64=_agrees_in_float64(case, actual, codes=codes))


def _agrees_in_float64(case: Case, actual: list[Any], *, codes: bool) -> bool | None:
    """Whether ONNX Runtime gives the same for the model in float64; None if it does not run that."""
    try:
        inputs = {name: _widened(value) for name, value in case.inputs.items()}
        expected = run_unoptimized(with_float64(case.model), inputs)
    except Exception:  # noqa: BLE001 - most operators have no kernel for float64
        return None
    if not any(isinstance(each, np.ndarray) and each.dtype == np.float64 for each in expected):
        return None
    return not difference(actual, expected, codes=codes)


def run_unoptimized(model: ModelProto, inputs: Mapping[str, Any]) -> list[Any]:
    """ONNX Runtime's outputs on the CPU with graph optimization off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    if all(each.type.startswith("tensor(") and "string" not in each.type for each in _signature(session)):
        feeds = {name: to_ort_value(np.ascontiguousarray(value).reshape(value.shape)) for name, value in inputs.items()}
        return [from_ort_value(value) for value in session.run_with_ort_values(names, feeds)]
    outputs: list[Any] = session.run(names, dict(inputs))
    return outputs


def _signature(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _widened(value: Any) -> Any:
    if isinstance(value, list):
        return [_widened(each) for each in value]
    return to_float64(value) if isinstance(value, np.ndarray) else value


def difference(actual: list[Any], expected: list[Any], *, codes: bool) -> str:
    """What distinguishes two lists of outputs; empty if nothing does."""
    problems = (
        _difference(np.asarray(ours), np.asarray(theirs), codes=codes)
        for ours, theirs in zip(_leaves(actual), _leaves(expected), strict=False)
    )
    if len(list(_leaves(actual))) != len(list(_leaves(expected))):
        return f"{len(list(_leaves(actual)))} outputs, ONNX Runtime has {len(list(_leaves(expected)))}"
    return next((problem for problem in problems if problem), "")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from (key, value[key])
    else:
        yield value


def _difference(ours: Array, theirs: Array, *, codes: bool) -> str:
    if ours.shape != theirs.shape:
        return f"shape {list(ours.shape)}, ONNX Runtime has {list(theirs.shape)}"
    if theirs.dtype.kind in "OUS" or ours.dtype.kind in "OUS":
        return "" if ours.astype(str).tolist() == theirs.astype(str).tolist() else "other strings"
    if theirs.dtype.kind in "biu" or theirs.dtype.name.startswith(("int", "uint")):
        apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        allowed = codes and apart.max(initial=0) <= 1 and np.count_nonzero(apart) <= max(1, apart.size // 20)
        return "" if allowed or not apart.any() else f"{np.count_nonzero(apart)} of {apart.size} integers differ"
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    with np.errstate(all="ignore"):
        a = a.astype(theirs.dtype).astype(np.float64) if theirs.dtype.name in TOLERANCES else a
    same = np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True)
    if not same or not np.isfinite(a[finite]).all():
        return "NaN or infinities elsewhere"
    rtol, atol = TOLERANCES.get(theirs.dtype.name, LOOSEST)
    scale = np.abs(b[finite]).max(initial=0)
    wrong = np.abs(a[finite] - b[finite]) > rtol * np.abs(b[finite]) + atol * scale
    if not wrong.any():
        return ""
    worst = int(np.argmax(np.abs(a[finite] - b[finite])))
    example = f"{a[finite][worst]:.5g}, not {b[finite][worst]:.5g}"
    return f"{np.count_nonzero(wrong)} of {b.size} values differ, such as {example}"
