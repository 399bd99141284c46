"""tract: an inference engine written in Rust, a second opinion that shares no kernel with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import installed
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement
from harness.runtimes._options import read, settle

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format


class TractSession:
    """A ``Runnable``. tract knows inputs by order and outputs by their nodes' names: the file gives the names."""

    def __init__(self, artifact: Artifact) -> None:
        import tract

        self._signature = read(artifact.path)
        for name, declared in self._signature.inputs.items():
            if declared.dtype.kind not in "biuf":
                raise Unsupported(f"input {name} is {declared.dtype}; tract takes NumPy's own dtypes")
        self._runnable = tract.onnx().load(str(artifact.path)).into_model().into_runnable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names."""
        answers = self._runnable.run(self._in_order(inputs))
        return {
            name: np.array(answer.to_numpy(), copy=True)
            for name, answer in zip(self._signature.outputs, answers, strict=True)
        }

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that tract holds already; its outputs stay there."""
        import tract

        tensors = [tract.Tensor.from_numpy(array) for array in self._in_order(inputs)]
        return partial(self._runnable.run, tensors)

    def placement(self) -> Placement | None:
        """None: the CPU is the one place."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on."""
        return {
            "precision": "as exported",
            "threads": 1,
            "optimization": "declutter and optimize",
            "device": "cpu",
            "version": f"tract {installed('tract')}",
        }

    def close(self) -> None:
        """Give the model back."""
        del self._runnable

    def _in_order(self, inputs: Mapping[str, Array]) -> list[Array]:
        self._signature.admit(inputs)
        return [np.array(inputs[name], order="C") for name in self._signature.inputs]


@dataclass(frozen=True, slots=True)
class Tract:
    """``tract`` on the CPU: it has no options."""

    name: str = "tract"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """None."""
        return {}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for any option."""
        settle(self.name, {}, options)

    def availability(self) -> Availability:
        """Whether tract is installed."""
        number = installed("tract")
        if number is None:
            return Availability("tract is not installed", "pip install 'parity-harness[tract]'")
        return Availability(detail=f"tract {number}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TractSession:
        """The model, optimized for this CPU."""
        self.check(options)
        self.availability().require(self.name)
        return TractSession(artifact)


PROVIDES = (Tract(),)
