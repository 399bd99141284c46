"""``torch.compile`` on the CPU: a ``torch.export`` program compiled by inductor at its first call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runtimes import Availability
from harness.runtimes._compiler import availability
from harness.runtimes._options import THREADS, Choice, settle
from harness.runtimes._torch_session import TorchSession

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_MODE = Choice("how hard inductor looks for quick kernels", "default", ("default", "max-autotune"))
_CHOICES = {"threads": THREADS, "mode": _MODE}


@dataclass(frozen=True, slots=True)
class Compile:
    """``torch.compile`` of what ``torch.export.load`` reads; the first run compiles, and is told apart."""

    name: str = "compile-cpu"
    takes: Format = "program"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads`` and ``mode``."""
        return {key: str(choice) for key, choice in _CHOICES.items()}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for an option that is not one of :attr:`options`."""
        settle(self.name, _CHOICES, options)

    def availability(self) -> Availability:
        """Whether torch and a C++ compiler are here."""
        return availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The program, to be compiled at its first call for each kind of shape."""
        settings = settle(self.name, _CHOICES, options)
        self.availability().require(self.name)
        import torch

        module = torch.export.load(artifact.path).module().requires_grad_(requires_grad=False)
        tuning = {"max_autotune": True} if settings["mode"] == "max-autotune" else {}
        compiled = torch.compile(module, options={"compile_threads": 1, **tuning})

        def call(*inputs: torch.Tensor) -> Any:
            return compiled(*inputs)

        return TorchSession(call, settings, "cpu", f"inductor, {settings['mode']}")


PROVIDES = (Compile(),)
