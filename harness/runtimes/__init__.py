"""One runtime a file; this is what each of them is: it loads an artifact and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import Unavailable

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

Array = NDArray[Any]

Value: TypeAlias = "Array | Sequence[Value] | Mapping[Any, Any] | None"
"""What ONNX knows besides tensors: a sequence, a map, and an optional, which is None where it holds nothing."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used here.

    ``missing`` is None where it can; else what is not there, and ``bring`` the command or the
    step that would bring it. ``detail`` says what is there (version, device). ``lacks_device`` is True where all is
    installed and no device is found that it could run on.
    """

    missing: str | None = None
    bring: str | None = None
    detail: str = ""
    lacks_device: bool = False

    @property
    def present(self) -> bool:
        """True where the runtime can load and run."""
        return self.missing is None

    @property
    def state(self) -> Literal["present", "no device", "absent"]:
        """The same in a word, with what is installed in vain told apart."""
        return "present" if self.present else "no device" if self.lacks_device else "absent"

    def why_not(self, runtime: str) -> str:
        """What keeps ``runtime`` from being used here, and what would bring it, in one line."""
        return f"{runtime}: {self.missing}; {self.bring}"

    def require(self, runtime: str) -> None:
        """Raises :class:`harness.errors.Unavailable` where ``runtime``, which this is about, cannot be used here."""
        if not self.present:
            raise Unavailable(self.why_not(runtime))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes of the graph ran.

    ``nodes`` counts nodes by execution provider and operator: ``{"CPUExecutionProvider": {"MaxPool": 1}}``.
    ``asked`` is the provider that was asked for; ``stray`` names each node elsewhere that the target does not allow.
    """

    asked: str
    nodes: Mapping[str, Mapping[str, int]]
    stray: tuple[str, ...] = ()


class Session(Protocol):
    """A loaded artifact."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in the model's order, as NumPy arrays on the host.

        ``inputs`` are by the case's labels, in the case's order. The arrays are not changed.
        """
        ...

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call without arguments that runs once on inputs already in place on the device, for timing.

        It returns only when the device has finished.
        """
        ...

    def placement(self) -> Placement | None:
        """Where the nodes run; None where the runtime has one place only."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on: ``precision``, ``threads``, ``optimization``, ``device``, ``version``."""
        ...

    def close(self) -> None:
        """Give back what the session holds."""
        ...


class Runtime(Protocol):
    """Loads artifacts of one format. Its third-party library is imported in its own file, inside functions only.

    ``name`` is the target's second word; ``takes`` is the format that it loads.
    """

    name: str
    takes: Format

    @property
    def options(self) -> Mapping[str, str]:
        """The keys that a target may set, each with one line that says what it does and its values."""
        ...

    def availability(self) -> Availability:
        """Whether it can be used here; never raises."""
        ...

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> Session:
        """The artifact, ready to run.

        Raises :class:`harness.errors.Unavailable` where the device is not there, :class:`harness.errors.Unsupported`
        where the runtime says that it does not do this, and :class:`harness.errors.UsageError` for an option that it
        does not have; lets the library's own exceptions through unchanged.
        """
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A session that can differentiate what it has loaded."""

    def gradients(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The gradient of the sum of the first output, by input label and parameter name.

        Every floating input and every floating parameter is there, zeros where the output does not depend on it.
        """
        ...


@runtime_checkable
class Structured(Protocol):
    """A session that takes and gives sequences, maps and optionals as well as tensors."""

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """As :meth:`Session.run`, for inputs and outputs of any kind."""
        ...


@runtime_checkable
class DeviceTimed(Protocol):
    """A session on a device that keeps its own clock, with memory of its own."""

    def device_us(self, inputs: Mapping[str, Array], runs: int) -> list[float]:
        """Microseconds that each of ``runs`` runs took by the device's clock, transfers left out."""
        ...


@runtime_checkable
class Transferring(Protocol):
    """A session whose inputs and outputs travel between the host and a device."""

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that carries the inputs to the device and the outputs back, and computes nothing, for timing."""
        ...


def owned(value: Value) -> Value:
    """A copy that owns its memory, so that a runtime that reuses its buffers cannot change an answer already given."""
    if isinstance(value, list | tuple):
        return [owned(item) for item in value]
    return np.array(value, copy=True) if isinstance(value, np.ndarray | np.generic) else value
