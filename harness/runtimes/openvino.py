"""OpenVINO on the CPU, set to compute in float32: its default is bfloat16 or float16 on CPUs that have them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import install_command, installed_version
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement, contiguous_copies
from harness.runtimes._messages import unconverted_operators
from harness.runtimes._validation import THREADS, Option, describe_options, read_signature, resolve_options

if TYPE_CHECKING:
    import openvino

    from harness.exporters import Artifact, Format

_PRECISION = Option("precision of float32 computation; default is OpenVINO's own choice", "f32", ("f32", "default"))
_OPTIONS = {"threads": THREADS, "precision": _PRECISION}


@dataclass(frozen=True, slots=True)
class OpenVino:
    """``openvino`` on the CPU."""

    name: str = "openvino"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads`` and ``precision``."""
        return describe_options(_OPTIONS)

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, _OPTIONS, options)

    def availability(self) -> Availability:
        """Whether openvino is installed and supports this CPU."""
        return _availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> OpenVinoSession:
        """The model, compiled for this CPU."""
        settings = resolve_options(self.name, _OPTIONS, options)
        self.availability().require(self.name)
        return OpenVinoSession(artifact, settings)


class OpenVinoSession:
    """A compiled model, with the model's own names of inputs and outputs.

    OpenVINO reshapes a static model and converts dtypes instead of raising an error, so this class checks the inputs
    against the file.
    """

    def __init__(self, artifact: Artifact, settings: Mapping[str, str]) -> None:
        self._signature = read_signature(artifact.path, tensors_only=True)
        for name, declared in self._signature.inputs.items():
            if declared.dtype.kind not in "biuf":
                dtype = "string" if declared.dtype.kind == "O" else declared.dtype
                raise Unsupported(f"input {name} is {dtype}; OpenVINO's Python interface lacks that dtype")
        precision = {} if settings["precision"] == "default" else {"INFERENCE_PRECISION_HINT": "f32"}
        properties = {"INFERENCE_NUM_THREADS": int(settings["threads"]), "PERFORMANCE_HINT": "LATENCY", **precision}
        with _refusals_as_unsupported():
            self._compiled = _core().compile_model(str(artifact.path), "CPU", properties)
            if opened := self._shapes_with_closed_axes():
                model = _core().read_model(str(artifact.path))
                model.reshape(opened)
                self._compiled = _core().compile_model(model, "CPU", properties)
        self._request = self._compiled.create_infer_request()
        # Kept until the end: with open axes, a request that is freed takes memory with it that the others still use.
        self._bound_requests: list[openvino.InferRequest] = []

    def _shapes_with_closed_axes(self) -> dict[str, openvino.PartialShape]:
        """The declared shapes of inputs with an open axis that OpenVINO takes for 0: its only negative size is -1."""
        from openvino import PartialShape

        return {
            name: PartialShape([-1 if size is None else size for size in declared.shape])
            for name, declared in self._signature.inputs.items()
            if declared.shape is not None
            and None in declared.shape
            and not self._compiled.input(name).partial_shape.compatible(
                PartialShape([1 if size is None else size for size in declared.shape])
            )
        }

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names."""
        self._signature.check(inputs)
        outputs = self._request.infer(contiguous_copies(inputs))
        return {name: np.array(outputs[index], copy=True) for index, name in enumerate(self._signature.outputs)}

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that the request holds; its outputs stay there."""
        import openvino

        self._signature.check(inputs)
        request = self._compiled.create_infer_request()
        self._bound_requests.append(request)
        for name, array in contiguous_copies(inputs).items():
            request.set_tensor(name, openvino.Tensor(array))

        def call() -> None:
            request.start_async()
            request.wait()

        return call

    def placement(self) -> Placement | None:
        """None: the only device is the CPU."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on, as the compiled model reports it."""
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return {
            "precision": f"as exported, floats in {hint.to_dtype()}",
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "optimization": "compiled",
            "device": ", ".join(self._compiled.get_property("EXECUTION_DEVICES")),
            "version": f"openvino {installed_version('openvino')}",
        }

    def close(self) -> None:
        """Free the model."""
        self._bound_requests.clear()
        del self._request, self._compiled


@contextmanager
def _refusals_as_unsupported() -> Iterator[None]:
    """Turn OpenVINO's report of operators that it cannot convert into Unsupported; other exceptions pass unchanged."""
    try:
        yield
    except RuntimeError as error:
        reason = unconverted_operators(str(error))
        if reason is None:
            raise
        raise Unsupported(reason) from error


@cache
def _availability() -> Availability:
    install = f"{install_command('openvino')}, on an x86-64 or Arm CPU"
    version = installed_version("openvino")
    if version is None:
        return Availability("openvino is not installed", install)
    try:
        devices = _core().available_devices
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(f"openvino does not load: {str(error).splitlines()[0]}", install)
    if "CPU" not in devices:
        return Availability("openvino does not support this CPU", install, f"openvino {version}", lacks_device=True)
    return Availability(detail=f"openvino {version}, {', '.join(devices)}")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO sends events to its vendor when it is imported; without its package for that, it does not."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # an import raises ImportError
    try:
        yield
    finally:
        del sys.modules[name]


@cache
def _core() -> openvino.Core:
    """The only ``Core`` of the process.

    The CPU plugin of a core takes over the thread's signal stack (it needs space for AMX's registers) and frees it at
    its end. With two cores at the same time, the signal stack in use may be one that was freed, and the next signal
    with a handler ends the process.
    """
    with _without_telemetry():
        import openvino

    return openvino.Core()


PROVIDES = (OpenVino(),)
