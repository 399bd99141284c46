"""Models of one operator, evaluated in float64, for the tests of blame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.operator_sweep.models.case import Case, case
from harness.blame.evaluator import evaluate, evaluate_in_file_dtypes

Array = NDArray[Any]
MICROSOFT = "com.microsoft"


def values(*numbers: Any) -> Array:
    return np.array(numbers, np.float32)


class OneOperator:
    """Evaluates one operator, from a file as blame does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def in_float64(self, operator: str, inputs: list[Any], opset: int, **more: Any) -> list[Array]:
        """The outputs with every floating tensor in float64."""
        made, path = self._saved(operator, inputs, opset, more)
        return list(evaluate(path, made.inputs).values())

    def in_file_dtypes(self, operator: str, inputs: list[Any], opset: int, **more: Any) -> list[Array]:
        """The outputs in the dtypes of the inputs."""
        made, path = self._saved(operator, inputs, opset, more)
        return list(evaluate_in_file_dtypes(path, made.inputs).values())

    def microsoft(self, operator: str, inputs: list[Any], **more: Any) -> Array:
        """The first output of one of ONNX Runtime's own operators."""
        return self.in_float64(operator, inputs, 1, domain=MICROSOFT, **more)[0]

    def _saved(self, operator: str, inputs: list[Any], opset: int, more: dict[str, Any]) -> tuple[Case, Path]:
        made = case("one", operator, inputs, opset, **more)
        path = self._folder / "one.onnx"
        onnx.save(made.model, str(path))
        return made, path
