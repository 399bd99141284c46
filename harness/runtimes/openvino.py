"""OpenVINO on the CPU, held to float32: left alone it computes in bfloat16 or float16 where the CPU has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import installed
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement
from harness.runtimes._options import THREADS, Choice, read, settle

if TYPE_CHECKING:
    import openvino

    from harness.exporters import Artifact, Format

_PRECISION = Choice("what float32 is computed in; default is OpenVINO's own choice", "f32", ("f32", "default"))
_CHOICES = {"threads": THREADS, "precision": _PRECISION}


class OpenVinoSession:
    """A compiled model. Inputs and outputs go by the model's own names.

    OpenVINO reshapes a static model and converts dtypes rather than object, so that the file's declarations are held
    to here.
    """

    def __init__(self, artifact: Artifact, settings: Mapping[str, str]) -> None:
        self._signature = read(artifact.path)
        for name, declared in self._signature.inputs.items():
            if declared.dtype.kind not in "biuf":
                raise Unsupported(f"input {name} is {declared.dtype}; OpenVINO's Python interface lacks that dtype")
        precision = {} if settings["precision"] == "default" else {"INFERENCE_PRECISION_HINT": "f32"}
        chosen = {"INFERENCE_NUM_THREADS": int(settings["threads"]), "PERFORMANCE_HINT": "LATENCY", **precision}
        self._compiled = _core().compile_model(str(artifact.path), "CPU", chosen)
        self._request = self._compiled.create_infer_request()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names."""
        self._signature.admit(inputs)
        answers = self._request.infer(_copies(inputs))
        return {name: np.array(answers[index], copy=True) for index, name in enumerate(self._signature.outputs)}

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that the request holds; its outputs stay there."""
        import openvino

        self._signature.admit(inputs)
        request = self._compiled.create_infer_request()
        for name, array in _copies(inputs).items():
            request.set_tensor(name, openvino.Tensor(array))

        def call() -> None:
            request.start_async()
            request.wait()

        return call

    def placement(self) -> Placement | None:
        """None: the CPU is the one place."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on, as the compiled model tells."""
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return {
            "precision": f"as exported, floats in {hint.to_dtype()}",
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "optimization": "compiled",
            "device": ", ".join(self._compiled.get_property("EXECUTION_DEVICES")),
            "version": f"openvino {installed('openvino')}",
        }

    def close(self) -> None:
        """Give the model back."""
        del self._request, self._compiled


@dataclass(frozen=True, slots=True)
class OpenVino:
    """``openvino`` on the CPU."""

    name: str = "openvino"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads`` and ``precision``."""
        return {key: str(choice) for key, choice in _CHOICES.items()}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for an option that is not one of :attr:`options`."""
        settle(self.name, _CHOICES, options)

    def availability(self) -> Availability:
        """Whether openvino is installed and drives this CPU."""
        return _availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> OpenVinoSession:
        """The model, compiled for this CPU."""
        settings = settle(self.name, _CHOICES, options)
        self.availability().require(self.name)
        return OpenVinoSession(artifact, settings)


@cache
def _availability() -> Availability:
    bring = "pip install 'parity-harness[openvino]', on an x86-64 or Arm CPU"
    number = installed("openvino")
    if number is None:
        return Availability("openvino is not installed", bring)
    try:
        found = _core().available_devices
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(f"openvino does not load: {str(error).splitlines()[0]}", bring)
    if "CPU" not in found:
        return Availability("openvino drives no CPU here", bring, f"openvino {number}", lacks_device=True)
    return Availability(detail=f"openvino {number}, {', '.join(found)}")


@cache
def _core() -> openvino.Core:
    """The process's one core.

    A core's CPU plugin takes the thread's signal stack for its own (room for AMX's registers) and frees it at its end.
    Where cores overlap, the stack in use may be one that is freed, and the next signal with a handler ends the process.
    """
    import openvino

    return openvino.Core()


def _copies(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array, order="C") for name, array in inputs.items()}


PROVIDES = (OpenVino(),)
