"""Evaluate an exported ONNX file independently of the target's runtime, to decide whether the file itself is right.

:func:`file_is_right` evaluates the file in float64. If that fails, or is not believed for one of the file's operators
(:mod:`harness.blame.evaluator`), it runs the file on independent runtimes. float64
does not show that a file rounds to a narrower type than its inputs have, or rounds integers; for that,
:func:`file_rounds` evaluates the file in its own dtypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from harness.blame.disagreement import MAX_ERROR_RATIO, Disagreement, absolute_errors
from harness.blame.evaluator import evaluate, evaluate_all, evaluate_in_file_dtypes, not_believed_reason
from harness.blame.file_runs import error_summary, independent_answers
from harness.compare.calibrated import WORST_RATIO
from harness.compare.metrics.similarity import root_mean_square

Array = NDArray[Any]
Answer = Mapping[str, Array]

SIGNIFICANT_BITS: Mapping[int, int] = {
    TensorProto.DOUBLE: 53,
    TensorProto.FLOAT: 24,
    TensorProto.FLOAT16: 11,
    TensorProto.BFLOAT16: 8,
}
"""The bits that a number of each floating type is rounded to."""

ELEMENTWISE = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Cast", "CastLike", "Ceil", "Clip",
        "Constant", "Cos", "Cosh", "Div", "Elu", "Erf", "Exp", "Expand", "Floor", "Gelu", "HardSigmoid",
        "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "PRelu", "Pow",
        "Reciprocal", "Relu", "Reshape", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
        "Sqrt", "Squeeze", "Sub", "Tan", "Tanh", "ThresholdedRelu", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators of ONNX that compute each value from single ones, or move values."""


def file_is_right(disagreement: Disagreement, evidence: list[str]) -> bool | None:
    """True if the file computes the right answer, False if a wrong one, None if nothing can evaluate it."""
    outputs = _float64_outputs(disagreement, evidence)
    if outputs is None:
        if disagreement.artifact.checker:
            # A runtime may end the process on an invalid file: tract does, in Rust.
            evidence.append(
                f"no other runtime was tried because onnx.checker rejects the file: {disagreement.artifact.checker}"
            )
            return None
        return _right_by_independent_runtimes(disagreement, evidence)
    problem = disagreement.problem(outputs)
    if problem is not None:
        evidence.append(f"evaluated in float64, the exported file itself is wrong: {problem}")
        return False
    evidence.append("evaluated in float64, the exported file itself gives the right answer")
    return True


def _float64_outputs(disagreement: Disagreement, evidence: list[str]) -> Answer | None:
    """The file's outputs by its float64 evaluation; None if that fails or is not believed for the file's operators."""
    path = disagreement.artifact.path
    try:
        if reason := not_believed_reason(path):
            evidence.append(reason)
            return None
        return _cast_like(evaluate(path, disagreement.reference.inputs), disagreement.expected)
    except Exception as error:  # noqa: BLE001 - an evaluation that fails is evidence that is missing
        evidence.append(f"the file could not be evaluated in float64: {error_summary(error)}")
        return None


def file_rounds(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True if the file casts to a type that cannot hold the values, and that rounding alone explains the error.

    That is so if the file, evaluated in its own dtypes, gives the target's answer, except for values that are as
    accurate as the file's: where a value lies between two numbers of the narrower type, the last bit of a sum decides
    to which of them it is rounded. Where many values are summed after the cast, each output may be another one, and its
    error as a whole is no larger than that of the file.
    """
    path, expected = disagreement.artifact.path, disagreement.expected
    if not_believed_reason(path):
        return False
    try:
        cast = rounding_cast(path, disagreement.reference.inputs, disagreement.reference.computes_in)
        if cast is None:
            return False
        outputs = _cast_like(evaluate_in_file_dtypes(path, disagreement.reference.inputs), expected)
    except Exception as error:  # noqa: BLE001 - as above
        evidence.append(f"the file could not be evaluated in its own dtypes: {error_summary(error)}")
        return False
    if not _shapes(outputs) == _shapes(disagreement.answer) == _shapes(expected):
        return False
    if not disagreement.differ(outputs, expected):
        return False
    same_values = not disagreement.differ(_with_accurate_values_replaced(disagreement, outputs), outputs)
    if not same_values and not _as_accurate_as(disagreement, outputs):
        return False
    evidence.append(
        "evaluated in its own dtypes, the file has the same error as the target: "
        f"it rounds to a narrower type at {cast}"
    )
    return True


def no_runtime_is_right(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True if the file, which is right in float64, has the target's error wherever it is computed in its own dtypes.

    Then its formula loses accuracy, such as ``exp(x) - 1`` for small ``x``, or its sums round as their order demands.
    """
    artifact, inputs, expected = disagreement.artifact, disagreement.reference.inputs, disagreement.expected
    evaluated: list[tuple[str, Answer]] = []
    if disagreement.target.runtime != "reference":  # which is what evaluates the file
        try:
            evaluated.append(("its evaluation in its own dtypes", evaluate_in_file_dtypes(artifact.path, inputs)))
        except Exception as error:  # noqa: BLE001 - as above
            evidence.append(f"the file could not be evaluated in its own dtypes: {error_summary(error)}")
            return False
    is_compared = False
    for name, answer in (*evaluated, *independent_answers(disagreement.target, artifact, inputs, evidence)):
        outputs = _cast_like(answer, expected)
        if not _shapes(outputs) == _shapes(disagreement.answer) == _shapes(expected):
            return False
        if disagreement.is_right(outputs) or not _as_accurate_as(disagreement, outputs):
            return False
        evidence.append(f"{name} gives an answer for the same file that is as far from the expected one")
        is_compared = True
    return is_compared


def is_elementwise(path: Path) -> bool:
    """True if each value of the file is computed from single values: no node sums, so each is accurate by itself."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return all(node.op_type in ELEMENTWISE and not node.domain for node in graph.node)


def _as_accurate_as(disagreement: Disagreement, outputs: Answer) -> bool:
    """True if no output of the target has a larger error than ``outputs`` have, in RMS and at the worst value."""
    for name, expected in disagreement.expected.items():
        target, other = (absolute_errors(each[name], expected) for each in (disagreement.answer, outputs))
        if root_mean_square(target) > MAX_ERROR_RATIO * root_mean_square(other):
            return False
        if target.max(initial=0.0) > WORST_RATIO * MAX_ERROR_RATIO * other.max(initial=0.0):
            return False
    return True


def order_of_equal_values(disagreement: Disagreement) -> str | None:
    """Why nobody is wrong about the order of equal values; None if that does not explain the disagreement.

    Only integer outputs differ, and a TopK of the file chooses among equal values: neither ONNX nor torch says in which
    order their indices come.
    """
    eager, answer = disagreement.reference.eager, disagreement.answer
    if list(eager) != list(answer) or _shapes(eager) != _shapes(answer):
        return None
    floating = [name for name, values in eager.items() if values.dtype.kind not in "iu"]
    wrong = [name for name in eager if not np.array_equal(eager[name], answer[name])]
    if set(wrong) <= set(floating) or disagreement.differ(
        {name: answer[name] if name in floating else eager[name] for name in eager}, eager
    ):
        return None
    graph = onnx.load(str(disagreement.artifact.path), load_external_data=False).graph
    sorting = [node for node in graph.node if node.op_type == "TopK"]
    if not sorting:
        return None
    try:
        values = {
            **disagreement.reference.inputs,
            **evaluate_all(disagreement.artifact.path, disagreement.reference.inputs),
        }
    except Exception:  # noqa: BLE001 - as above
        return None
    tied = [node for node in sorting if node.input[0] in values and _has_ties(node, values)]
    if not tied:
        return None
    return (
        f"only indices differ, and {tied[0].name or 'TopK'!r} sorts equal values: neither ONNX nor torch says in which "
        "order their indices come"
    )


def _has_ties(node: onnx.NodeProto, values: Answer) -> bool:
    """True if values that the TopK chooses, or the first that it leaves out, are equal."""
    axis = next((each.i for each in node.attribute if each.name == "axis"), -1)
    ordered = np.sort(values[node.input[0]], axis=axis)
    chosen = next((values[name].shape[axis] for name in node.output if name in values), ordered.shape[axis])
    largest = next((each.i for each in node.attribute if each.name == "largest"), 1)
    equal = np.moveaxis(np.diff(ordered, axis=axis) == 0, axis, -1)
    return bool((equal[..., -chosen:] if largest else equal[..., :chosen]).any())


def _with_accurate_values_replaced(disagreement: Disagreement, outputs: Answer) -> Answer:
    """The target's answer, with the value from ``outputs`` wherever the target's is as accurate as that."""
    as_accurate = {
        name: absolute_errors(disagreement.answer[name], expected)
        <= MAX_ERROR_RATIO * absolute_errors(outputs[name], expected)
        for name, expected in disagreement.expected.items()
    }
    return {name: np.where(mask, outputs[name], disagreement.answer[name]) for name, mask in as_accurate.items()}


def _shapes(answer: Answer) -> Mapping[str, tuple[int, ...]]:
    return {name: values.shape for name, values in answer.items()}


def rounding_cast(path: Path, inputs: Answer, computes_in: str | None = None) -> str | None:
    """The first node that casts to a type that cannot hold its input, in words.

    That is a floating type narrower than every floating input of the file and than ``computes_in``, the dtype that the
    reference itself computes in, or one that rounds the integers that ``inputs`` lead to there: float32 holds no more
    than 24 bits of an int64. Raises what the evaluation raises.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    input_bits = [
        SIGNIFICANT_BITS[value.type.tensor_type.elem_type]
        for value in graph.input
        if value.type.tensor_type.elem_type in SIGNIFICANT_BITS
    ]
    if input_bits and computes_in is not None:
        input_bits.append(SIGNIFICANT_BITS[TensorProto.DataType.Value(computes_in.upper())])
    casts = {index: to for index, node in enumerate(graph.node) if (to := _cast_type(node)) in SIGNIFICANT_BITS}
    values = {**evaluate_all(path, inputs), **inputs} if casts else {}
    for index, to in casts.items():
        node = graph.node[index]
        narrows = input_bits and SIGNIFICANT_BITS[to] < min(input_bits)
        if narrows or _rounds_integers(values.get(node.input[0]), helper.tensor_dtype_to_np_dtype(to)):
            return f"Cast {node.name!r} to {TensorProto.DataType.Name(to).lower()}"
    return None


def _cast_type(node: onnx.NodeProto) -> int:
    """The type that a Cast casts to; that of no tensor for another node."""
    to = (attribute.i for attribute in node.attribute if attribute.name == "to" and node.op_type == "Cast")
    return next(to, TensorProto.UNDEFINED)


def _rounds_integers(values: Array | None, to: np.dtype[Any]) -> bool:
    """True if ``values`` are integers that ``to`` cannot hold."""
    if values is None or values.dtype.kind not in "iu":
        return False
    with np.errstate(all="ignore"):
        return bool((values.astype(to).astype(np.longdouble) != values.astype(np.longdouble)).any())


def _right_by_independent_runtimes(disagreement: Disagreement, evidence: list[str]) -> bool | None:
    """True if an independent runtime gives the right answer, False if it gives the target's wrong one, else None."""
    for name, outputs in independent_answers(
        disagreement.target, disagreement.artifact, disagreement.reference.inputs, evidence
    ):
        if disagreement.is_right(outputs):
            evidence.append(f"{name} gives the right answer for the same file")
            return True
        if disagreement.compare(disagreement.answer, outputs).passed:
            evidence.append(f"{name}, an independent runtime, gives the target's wrong answer for the same file")
            return False
        evidence.append(f"{name} gives a third answer for the same file")
    return None


def right_on_another_runtime(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True if an independent runtime gives the right answer for a file that the evaluation finds wrong.

    Then the evaluation may be what is wrong, and the exporter is not blamed.
    """
    others = independent_answers(disagreement.target, disagreement.artifact, disagreement.reference.inputs, evidence)
    right = False
    for name, outputs in others:
        which = "the right" if disagreement.is_right(outputs) else "a wrong"
        evidence.append(f"{name}, an independent runtime, gives {which} answer for the same file")
        right = right or which == "the right"
    return right


def _cast_like(outputs: Answer, expected: Answer) -> Answer:
    """``outputs`` in the dtypes of ``expected``."""
    dtypes = {name: values.dtype for name, values in expected.items()}
    with np.errstate(all="ignore"):
        return {name: np.asarray(values).astype(dtypes.get(name)) for name, values in outputs.items()}
