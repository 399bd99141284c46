"""The protocols of runtimes and their sessions. Each module of this package adds runtimes.

A runtime loads an artifact of one format; the session that it returns runs the artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.deprecated import accept_old_names, old_attributes
from harness.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from harness.exporters import Artifact, Format

Array = NDArray[Any]

Value: TypeAlias = "Array | Sequence[Value] | Mapping[Any, Any] | None"
"""A value of ONNX: a tensor, a sequence, a map, or an optional, which is None if it is empty."""


@old_attributes(bring="install", why_not="unavailable_message")
@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used on this machine.

    ``missing`` says what is missing, None if nothing is. ``install`` is the command or the step that makes the runtime
    available. ``detail`` describes what is present (version, device). ``lacks_device`` is True if everything is
    installed but no device is found to run on.
    """

    missing: str | None = None
    install: str | None = None
    detail: str = ""
    lacks_device: bool = False

    @property
    def present(self) -> bool:
        """True if the runtime can load and run artifacts."""
        return self.missing is None

    @property
    def state(self) -> Literal["present", "no device", "absent"]:
        """The availability in a word: ``no device`` if the runtime is installed but finds no device."""
        return "present" if self.present else "no device" if self.lacks_device else "absent"

    def unavailable_message(self, runtime: str) -> str:
        """Why ``runtime`` cannot be used on this machine and how to make it available, in one line."""
        return f"{runtime}: {self.missing}; {'needs' if self.lacks_device else 'install with'}: {self.install}"

    def require(self, runtime: str) -> None:
        """Raise :class:`harness.errors.Unavailable` if ``runtime``, to which this belongs, cannot be used."""
        if not self.present:
            raise Unavailable(self.unavailable_message(runtime))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes of the graph run.

    ``asked`` is the requested execution provider. ``nodes`` counts nodes by execution provider and operator:
    ``{"CPUExecutionProvider": {"MaxPool": 1}}``. ``stray`` lists the nodes on providers that the target does not allow.
    """

    asked: str
    nodes: Mapping[str, Mapping[str, int]]
    stray: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTimes:
    """A node or an operation of a loaded model, and how long it took in each run, in microseconds.

    ``operator`` is its type. ``module`` is the path of the torch module that it belongs to, empty if it is not known.
    """

    node: str
    operator: str
    provider: str = ""
    module: str = ""
    us: tuple[float, ...] = ()


class Session(Protocol):
    """A loaded artifact."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in the model's order, as NumPy arrays on the host.

        ``inputs`` has the case's labels as keys, in the case's order. The arrays are not changed.
        """
        ...

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call without arguments for timing: it runs once on inputs that are already on the device.

        It returns only when the device has finished.
        """
        ...

    def placement(self) -> Placement | None:
        """Where the nodes run; None if the runtime has only one device."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on: ``precision``, ``threads``, ``optimization``, ``device``, ``version``."""
        ...

    def close(self) -> None:
        """Free the resources of the session."""
        ...


class Runtime(Protocol):
    """Loads artifacts of one format. Its module imports the third-party library only inside functions.

    ``name`` is the second word of a target. ``takes`` is the format that it loads.
    """

    name: str
    takes: Format

    @property
    def options(self) -> Mapping[str, str]:
        """The options that a target may set, each with one line on its meaning and its values."""
        ...

    def availability(self) -> Availability:
        """Whether the runtime can be used on this machine; never raises."""
        ...

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> Session:
        """A session of the artifact.

        Raises :class:`harness.errors.Unavailable` if the device is missing, :class:`harness.errors.Unsupported` if the
        runtime reports that it does not support the model, and :class:`harness.errors.UsageError` for an unknown
        option. Other exceptions of the library pass through unchanged.
        """
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A session that can compute gradients."""

    def gradients(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The gradient of the sum of the first output, by input label and parameter name.

        It has every floating-point input and parameter, with zeros if the output does not depend on it.
        """
        ...


@runtime_checkable
class Structured(Protocol):
    """A session with sequences, maps and optionals as inputs and outputs, besides tensors."""

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """As :meth:`Session.run`, for inputs and outputs of any kind."""
        ...


@runtime_checkable
class DeviceTimed(Protocol):
    """A session on a device with its own clock and memory."""

    def device_us(self, inputs: Mapping[str, Array], runs: int) -> list[float]:
        """The duration of each of ``runs`` runs in microseconds by the device's clock, without transfers."""
        ...


@runtime_checkable
class Profiled(Protocol):
    """A session that can say how long each of its nodes takes."""

    def node_times(self, inputs: Mapping[str, Array], runs: int, trace: Path) -> Sequence[NodeTimes]:
        """The nodes in the order of execution, each with its time in ``runs`` runs after a warm-up.

        The session that is timed is not slowed down by it. The library's own trace is written to ``trace``, in Chrome's
        format.
        """
        ...


@runtime_checkable
class Transferring(Protocol):
    """A session whose inputs and outputs are transferred between the host and a device."""

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call for timing that copies the inputs to the device and the outputs back, and computes nothing."""
        ...


def copied(value: Value) -> Value:
    """A copy with its own memory, so that a runtime that reuses its buffers cannot change an earlier output."""
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return np.array(value, copy=True) if isinstance(value, np.ndarray | np.generic) else value


def contiguous_copies(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """C-contiguous copies of the arrays, for a runtime that takes no strides or shares the memory of its inputs."""
    return {name: np.array(array, order="C") for name, array in inputs.items()}


accept_old_names(__name__)
