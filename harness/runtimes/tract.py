"""tract: an inference engine written in Rust, which shares no kernel with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import installed_version
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement, contiguous_copies
from harness.runtimes._validation import read_signature, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format


@dataclass(frozen=True, slots=True)
class Tract:
    """``tract`` on the CPU. It has no options."""

    name: str = "tract"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """Empty."""
        return {}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for any option."""
        resolve_options(self.name, {}, options)

    def availability(self) -> Availability:
        """Whether tract is installed."""
        version = installed_version("tract")
        if version is None:
            return Availability("tract is not installed", "pip install 'parity-harness[tract]'")
        return Availability(detail=f"tract {version}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TractSession:
        """The model, optimized for this CPU."""
        self.check(options)
        self.availability().require(self.name)
        return TractSession(artifact)


class TractSession:
    """A ``Runnable`` of tract.

    tract binds inputs by order and names outputs by their nodes, so this class takes the names from the file.
    """

    def __init__(self, artifact: Artifact) -> None:
        import tract

        self._signature = read_signature(artifact.path, tensors_only=True)
        for name, declared in self._signature.inputs.items():
            if declared.dtype.kind not in "biuf":
                raise Unsupported(f"input {name} is {declared.dtype}; tract takes only NumPy's own dtypes")
        self._runnable = tract.onnx().load(str(artifact.path)).into_model().into_runnable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names."""
        outputs = self._runnable.run(self._in_order(inputs))
        return {
            name: np.array(output.to_numpy(), copy=True)
            for name, output in zip(self._signature.outputs, outputs, strict=True)
        }

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that tract already holds; its outputs stay there."""
        import tract

        tensors = [tract.Tensor.from_numpy(array) for array in self._in_order(inputs)]
        return partial(self._runnable.run, tensors)

    def placement(self) -> Placement | None:
        """None: the only device is the CPU."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on."""
        return {
            "precision": "as exported",
            "threads": 1,
            "optimization": "declutter and optimize",
            "device": "cpu",
            "version": f"tract {installed_version('tract')}",
        }

    def close(self) -> None:
        """Free the model."""
        del self._runnable

    def _in_order(self, inputs: Mapping[str, Array]) -> list[Array]:
        self._signature.check(inputs)
        copies = contiguous_copies(inputs)
        return [copies[name] for name in self._signature.inputs]


PROVIDES = (Tract(),)
