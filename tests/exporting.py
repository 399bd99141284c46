"""Helpers for the tests of exporters and fixes: export a module, run the file, compare bit for bit with eager torch."""

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
    """A subject of the module, with inputs named ``x0``, ``x1``, ..."""
    module.train(train)
    expected = eager(module, inputs)
    labels = {f"x{index}": tensor for index, tensor in enumerate(inputs)}
    return Subject(module, labels, len(expected), "train" if train else "eval", dynamic or {})


def eager(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of eager torch, on copies of the inputs."""
    with torch.no_grad():
        outputs = module(*(tensor.clone() for tensor in inputs))
    return tuple(outputs) if isinstance(outputs, tuple) else (outputs,)


def export(subject: Subject, exporter: str, path: Path, opset: int | None = None, *, fixes: bool = False) -> Artifact:
    """The artifact that the registered exporter writes."""
    artifact = plugins("exporters")[exporter].export(subject, path, opset=opset, fixes=fixes)
    assert isinstance(artifact, Artifact)
    return artifact


def run_file(artifact: Artifact, inputs: Sequence[Tensor]) -> list[Array]:
    """The outputs of the file on the CPU, by ONNX Runtime or TorchScript."""
    if artifact.format == "onnx":
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
        feed = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
        return [np.asarray(output) for output in session.run(None, feed)]
    with torch.no_grad():
        outputs = torch.jit.load(artifact.path)(*(tensor.clone() for tensor in inputs))  # type: ignore[no-untyped-call]
    return [tensor.numpy() for tensor in (outputs if isinstance(outputs, tuple) else (outputs,))]


def difference(expected: Sequence[Tensor], actual: Sequence[Array]) -> str | None:
    """The first difference in count, shape, dtype or value, with NaN equal to NaN; None if there is none."""
    if len(expected) != len(actual):
        return f"{len(actual)} outputs, expected {len(expected)}"
    for index, (tensor, output) in enumerate(zip(expected, actual, strict=True)):
        reference = tensor.numpy()
        if (reference.shape, reference.dtype) != (output.shape, output.dtype):
            return f"output {index} is {output.dtype}{output.shape}, expected {reference.dtype}{reference.shape}"
        if not np.array_equal(reference, output, equal_nan=reference.dtype.kind == "f"):
            return f"output {index} is {output.tolist()}, expected {reference.tolist()}"
    return None


def difference_from_eager(
    module: nn.Module,
    inputs: Sequence[Tensor],
    target: str,
    *,
    fixes: bool,
    dynamic: Dynamic | None = None,
    at: Sequence[Tensor] | None = None,
) -> str | None:
    """Export to ``target`` (such as ``onnx-dynamo@23``), run the file, and return its first difference from eager.

    The file runs on ``at``, or on ``inputs`` if ``at`` is None. An error of onnx.checker counts as a difference.
    """
    exporter, _, opset = target.partition("@")
    example = subject(module, inputs, dynamic=dynamic)
    with tempfile.TemporaryDirectory() as folder:
        artifact = export(example, exporter, Path(folder, "model"), int(opset) if opset else None, fixes=fixes)
        run_inputs = inputs if at is None else at
        return artifact.checker or difference(eager(module, run_inputs), run_file(artifact, run_inputs))
