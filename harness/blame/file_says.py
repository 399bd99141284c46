"""Whether an exported file is right by itself, whatever the target's runtime makes of it.

It is evaluated here in float64. Where the file rounds on its way to a narrower type than its inputs have, it is
evaluated as it is written too, since float64 does not see that. Where it cannot be evaluated here, other runtimes are
asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from harness.blame.float64 import evaluate, evaluate_as_written
from harness.blame.scene import Scene
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Runtime

Array = NDArray[Any]
Answer = Mapping[str, Array]

SECOND_OPINIONS = ("openvino", "tract")
"""Runtimes that share no code with ONNX Runtime. ``onnx.reference`` is none of them: its pools are unsound."""

BITS = {TensorProto.DOUBLE: 64, TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16}


def file_is_right(scene: Scene, evidence: list[str]) -> bool | None:
    """What the file computes: True for the right answer, False for a wrong one, None where nobody can say."""
    try:
        outputs = _in_form(evaluate(scene.artifact.path, scene.inputs), scene.truth)
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told as evidence that is missing
        evidence.append(f"the file could not be evaluated in float64: {first_line(error)}")
        if scene.artifact.checker:
            # Another engine may end the process over a file that means nothing: tract does, in Rust.
            evidence.append(f"no other runtime is asked, for onnx.checker refuses the file: {scene.artifact.checker}")
            return None
        return _by_second_opinion(scene, evidence)
    if not scene.is_right(outputs):
        held = scene.compare(outputs, scene.truth)
        said = "it does not meet the spec's expectations" if held.passed else held.message
        evidence.append(f"evaluated in float64, the exported file itself is wrong: {said}")
        return False
    evidence.append("evaluated in float64, the exported file itself gives the right answer")
    return not _loses_precision(scene, evidence)


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


def _loses_precision(scene: Scene, evidence: list[str]) -> bool:
    """True where the file asks for a narrower type than its inputs have, and that alone makes the target's answer."""
    narrow = narrowing(scene.artifact.path)
    if not narrow:
        return False
    try:
        outputs = _in_form(evaluate_as_written(scene.artifact.path, scene.inputs), scene.truth)
    except Exception as error:  # noqa: BLE001 - as above
        evidence.append(f"the file could not be evaluated as it is written: {first_line(error)}")
        return False
    if scene.is_right(outputs) or not scene.compare(scene.answer, outputs).passed:
        return False
    evidence.append(f"evaluated as it is written it gives the target's answer: it rounds on its way, at {narrow}")
    return True


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


def _by_second_opinion(scene: Scene, evidence: list[str]) -> bool | None:
    """What a runtime of other make says of the file: right, or wrong in the target's own way; None where none helps."""
    for name in SECOND_OPINIONS:
        runtime = plugins("runtimes").get(name)
        if runtime is None or name == scene.target.runtime or not runtime.availability().present:
            continue
        try:
            outputs = answer_of(runtime, scene.artifact, {}, scene.inputs)
        except Exception as error:  # noqa: BLE001 - it is asked for its opinion, and may have none
            evidence.append(f"{name} has no opinion: {first_line(error)}")
            continue
        if scene.is_right(outputs):
            evidence.append(f"{name} gets the right answer from the same file")
            return True
        if scene.compare(scene.answer, outputs).passed:
            evidence.append(f"{name}, of other make, gets the target's wrong answer from the same file")
            return False
        evidence.append(f"{name} gets a third answer from the same file")
    return None


def _in_form(outputs: Answer, truth: Answer) -> Answer:
    """``outputs`` in the dtypes that the truth has."""
    dtypes = {name: values.dtype for name, values in truth.items()}
    with np.errstate(all="ignore"):
        return {name: np.asarray(values).astype(dtypes.get(name)) for name, values in outputs.items()}
