"""An exported graph evaluated in float64: what the file says, whatever a runtime makes of it.

Whether an exported file is right by itself, whatever the target's runtime makes of it.

It is evaluated here in float64. Where it cannot be evaluated here, other runtimes are asked. That a file rounds on its
way to a narrower type than its inputs have is not seen in float64; for that it is evaluated as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from harness.blame.disagreement import AS_NEAR, Disagreement, apart
from harness.blame.sound_pools import SOUND
from harness.exporters import Artifact
from harness.onnx_arrays import from_array, to_array
from harness.registry import plugins
from harness.runtimes import Runtime

Array = NDArray[Any]
NARROW = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT}


def evaluate(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name, every floating tensor in float64.

    Evaluated by ``onnx.reference`` with sound pools in place of its own. Raises what the evaluator
    raises for an operator that it does not know.
    """
    return _run(widened(onnx.load(str(path))), {name: wide_array(values) for name, values in inputs.items()})


def evaluate_all(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """As :func:`evaluate`, every value that a node of the graph computes, in the order in which they are computed."""
    model = onnx.load(str(path))
    if model.functions:
        model = inline_local_functions(model)
    evaluator = ReferenceEvaluator(widened(model), new_ops=list(SOUND))
    with np.errstate(all="ignore"):
        values = evaluator.run(None, {name: wide_array(array) for name, array in inputs.items()}, intermediate=True)
    computed = [name for node in model.graph.node for name in node.output if name]
    return {name: np.asarray(values[name]) for name in computed}


def evaluate_as_written(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same in the graph's own dtypes, with every rounding that the graph itself asks for."""
    return _run(onnx.load(str(path)), inputs)


def _run(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    evaluator = ReferenceEvaluator(model, new_ops=list(SOUND))
    with np.errstate(all="ignore"):
        outputs = evaluator.run(None, dict(inputs))
    return dict(zip((output.name for output in model.graph.output), outputs, strict=True))


def widened(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with float64 for every narrower floating type: weights, constants, casts and signatures."""
    wide = ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for function in wide.functions:
        _widen_nodes(function.node)
    return wide


def wide_array(values: Array) -> Array:
    """``values`` in float64 where they are floating, bfloat16 included."""
    return values.astype(np.float64) if values.dtype.kind in "fV" or values.dtype.name == "bfloat16" else values


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _widen_graph(attribute.g)
            elif attribute.name in {"to", "dtype"} and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        name = tensor.name
        tensor.CopyFrom(from_array(wide_array(to_array(tensor)), name))


Answer = Mapping[str, Array]

SECOND_OPINIONS = ("openvino", "tract")
"""Runtimes that share no code with ONNX Runtime. ``onnx.reference`` is none of them: its pools are unsound."""

BITS = {TensorProto.DOUBLE: 64, TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16}


def file_is_right(disagreement: Disagreement, evidence: list[str]) -> bool | None:
    """What the file computes: True for the right answer, False for a wrong one, None where nobody can say."""
    try:
        outputs = _in_form(evaluate(disagreement.artifact.path, disagreement.inputs), disagreement.truth)
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told as evidence that is missing
        evidence.append(f"the file could not be evaluated in float64: {first_line(error)}")
        if disagreement.artifact.checker:
            # Another engine may end the process over a file that means nothing: tract does, in Rust.
            evidence.append(
                f"no other runtime is asked, for onnx.checker refuses the file: {disagreement.artifact.checker}"
            )
            return None
        return _by_second_opinion(disagreement, evidence)
    if not disagreement.is_right(outputs):
        held = disagreement.compare(outputs, disagreement.truth)
        said = "it does not meet the spec's expectations" if held.passed else held.message
        evidence.append(f"evaluated in float64, the exported file itself is wrong: {said}")
        return False
    evidence.append("evaluated in float64, the exported file itself gives the right answer")
    return True


def file_rounds(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True where the file asks for a narrower type than its inputs have, and that alone takes the answer so far off.

    That is where the file, evaluated as it is written, gives the target's answer but for the elements that are as near
    to the truth as its own: where a value lies between two of the narrower type, the last bit of a sum decides.
    """
    narrow = narrowing(disagreement.artifact.path)
    if not narrow:
        return False
    try:
        written = _in_form(evaluate_as_written(disagreement.artifact.path, disagreement.inputs), disagreement.truth)
    except Exception as error:  # noqa: BLE001 - as above
        evidence.append(f"the file could not be evaluated as it is written: {first_line(error)}")
        return False
    if not _shapes(written) == _shapes(disagreement.answer) == _shapes(disagreement.truth) or not disagreement.differ(
        written, disagreement.truth
    ):
        return False
    if disagreement.differ(_but_for_luck(disagreement, written), written):
        return False
    evidence.append(f"evaluated as it is written it is as far off as the target is: it rounds on its way, at {narrow}")
    return True


def _but_for_luck(disagreement: Disagreement, written: Answer) -> Answer:
    """The target's answer, with what is ``written`` in place of each element that is as near to the truth as that."""
    luck = {
        name: apart(disagreement.answer[name], truth) <= AS_NEAR * apart(written[name], truth)
        for name, truth in disagreement.truth.items()
    }
    return {name: np.where(lucky, written[name], disagreement.answer[name]) for name, lucky in luck.items()}


def _shapes(answer: Answer) -> Mapping[str, tuple[int, ...]]:
    return {name: values.shape for name, values in answer.items()}


def answer_of(runtime: Runtime, artifact: Artifact, options: Mapping[str, str], inputs: Answer) -> Answer:
    """What ``runtime`` makes of the file. Raises what the runtime raises."""
    session = runtime.load(artifact, options)
    try:
        return session.run(inputs)
    finally:
        session.close()


def first_line(error: Exception) -> str:
    """The kind of an exception and the first line that it says."""
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said[:200] or 'no message'}"


def narrowing(path: Path) -> str | None:
    """The first node that casts to a narrower floating type than that of every floating input, in words."""
    graph = onnx.load(str(path), load_external_data=False).graph
    asked = [
        BITS[value.type.tensor_type.elem_type] for value in graph.input if value.type.tensor_type.elem_type in BITS
    ]
    for node in graph.node if asked else ():
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
        if node.op_type == "Cast" and to in BITS and BITS[to] < min(asked):
            return f"Cast {node.name!r} to {TensorProto.DataType.Name(to).lower()}"
    return None


def _by_second_opinion(disagreement: Disagreement, evidence: list[str]) -> bool | None:
    """What a runtime of other make says of the file: right, or wrong in the target's own way; None where none helps."""
    for name in SECOND_OPINIONS:
        runtime = plugins("runtimes").get(name)
        if runtime is None or name == disagreement.target.runtime or not runtime.availability().present:
            continue
        try:
            outputs = answer_of(runtime, disagreement.artifact, {}, disagreement.inputs)
        except Exception as error:  # noqa: BLE001 - it is asked for its opinion, and may have none
            evidence.append(f"{name} has no opinion: {first_line(error)}")
            continue
        if disagreement.is_right(outputs):
            evidence.append(f"{name} gets the right answer from the same file")
            return True
        if disagreement.compare(disagreement.answer, outputs).passed:
            evidence.append(f"{name}, of other make, gets the target's wrong answer from the same file")
            return False
        evidence.append(f"{name} gets a third answer from the same file")
    return None


def _in_form(outputs: Answer, truth: Answer) -> Answer:
    """``outputs`` in the dtypes that the truth has."""
    dtypes = {name: values.dtype for name, values in truth.items()}
    with np.errstate(all="ignore"):
        return {name: np.asarray(values).astype(dtypes.get(name)) for name, values in outputs.items()}
