"""What the tests of exporters and fixes share: export a module, run the file, hold it against eager, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.exporters import Artifact
from harness.model.build import Subject
from harness.registry import plugins

Array = NDArray[Any]
Dynamic = Mapping[str, Mapping[int, str]]


def subject(
    module: nn.Module, inputs: Sequence[Tensor], *, train: bool = False, dynamic: Dynamic | None = None
) -> Subject:
    """The module with its inputs called ``x0``, ``x1``, ..."""
    module.train(train)
    answers = eager(module, inputs)
    labels = {f"x{index}": tensor for index, tensor in enumerate(inputs)}
    return Subject(module, labels, len(answers), "train" if train else "eval", dynamic or {})


def eager(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What torch answers, on copies of the inputs."""
    with torch.no_grad():
        answer = module(*(tensor.clone() for tensor in inputs))
    return tuple(answer) if isinstance(answer, tuple) else (answer,)


def export(given: Subject, exporter: str, path: Path, opset: int | None = None, *, fixes: bool = False) -> Artifact:
    """The artifact of a registered exporter."""
    artifact = plugins("exporters")[exporter].export(given, path, opset=opset, fixes=fixes)
    assert isinstance(artifact, Artifact)
    return artifact


def answers(artifact: Artifact, inputs: Sequence[Tensor]) -> list[Array]:
    """What the file answers on the CPU, through ONNX Runtime or TorchScript."""
    if artifact.format == "onnx":
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
        feed = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
        return [np.asarray(output) for output in session.run(None, feed)]
    with torch.no_grad():
        answer = torch.jit.load(artifact.path)(*(tensor.clone() for tensor in inputs))  # type: ignore[no-untyped-call]
    return [tensor.numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]


def difference(expected: Sequence[Tensor], actual: Sequence[Array]) -> str | None:
    """Where the two part, NaN being equal to NaN; None where they are the same in count, shape, dtype and value."""
    if len(expected) != len(actual):
        return f"{len(actual)} outputs, not {len(expected)}"
    for index, (right, found) in enumerate(zip((tensor.numpy() for tensor in expected), actual, strict=True)):
        if (right.shape, right.dtype) != (found.shape, found.dtype):
            return f"output {index} is {found.dtype}{found.shape}, not {right.dtype}{right.shape}"
        if not np.array_equal(right, found, equal_nan=right.dtype.kind == "f"):
            return f"output {index} differs: {found.tolist()} for {right.tolist()}"
    return None


def parted(
    module: nn.Module,
    inputs: Sequence[Tensor],
    target: str,
    *,
    fixes: bool,
    dynamic: Dynamic | None = None,
    at: Sequence[Tensor] | None = None,
) -> str | None:
    """Export to ``target`` (``onnx-dynamo@23``), run, and say where it parts from eager.

    It runs at ``at``, or at the example inputs. The checker's objection counts as a difference.
    """
    exporter, _, opset = target.partition("@")
    given = subject(module, inputs, dynamic=dynamic)
    with tempfile.TemporaryDirectory() as folder:
        artifact = export(given, exporter, Path(folder, "model"), int(opset) if opset else None, fixes=fixes)
        tried = inputs if at is None else at
        return artifact.checker or difference(eager(module, tried), answers(artifact, tried))
