"""Whether an exported file is right by itself, whatever the target's runtime makes of it.

It is evaluated here in float64. Where it cannot be evaluated here, other runtimes are asked. That a file rounds on its
way to a narrower type than its inputs have is not seen in float64; for that it is evaluated as it is written.
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
from harness.blame.room import AS_NEAR, apart
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
    return True


def file_rounds(scene: Scene, evidence: list[str]) -> bool:
    """True where the file asks for a narrower type than its inputs have, and that alone takes the answer so far off.

    That is where the file, evaluated as it is written, gives the target's answer but for the elements that are as near
    to the truth as its own: where a value lies between two of the narrower type, the last bit of a sum decides.
    """
    narrow = narrowing(scene.artifact.path)
    if not narrow:
        return False
    try:
        written = _in_form(evaluate_as_written(scene.artifact.path, scene.inputs), scene.truth)
    except Exception as error:  # noqa: BLE001 - as above
        evidence.append(f"the file could not be evaluated as it is written: {first_line(error)}")
        return False
    if not _shapes(written) == _shapes(scene.answer) == _shapes(scene.truth) or not scene.differ(written, scene.truth):
        return False
    if scene.differ(_but_for_luck(scene, written), written):
        return False
    evidence.append(f"evaluated as it is written it is as far off as the target is: it rounds on its way, at {narrow}")
    return True


def _but_for_luck(scene: Scene, written: Answer) -> Answer:
    """The target's answer, with what is ``written`` in place of each element that is as near to the truth as that."""
    luck = {
        name: apart(scene.answer[name], truth) <= AS_NEAR * apart(written[name], truth)
        for name, truth in scene.truth.items()
    }
    return {name: np.where(lucky, written[name], scene.answer[name]) for name, lucky in luck.items()}


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
