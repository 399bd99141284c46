"""Whether torch and a C++ compiler are here, which what is compiled on this machine needs.

``torch.compile`` on the CPU: a ``torch.export`` program compiled by inductor at its first call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.environment import installed
from harness.runtimes import Availability
from harness.runtimes._options import THREADS, Choice, settle
from harness.runtimes._torch_session import TorchSession

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format


def availability() -> Availability:
    """Whether torch's inductor can compile for the CPU: by ``CXX`` where that is set, else by g++."""
    number = installed("torch")
    if number is None:
        return Availability("torch is not installed", "pip install 'parity-harness[cpu]'")
    compiler = os.environ.get("CXX", "g++")
    found = shutil.which(compiler)
    if found is None:
        return Availability(
            f"there is no C++ compiler {compiler}", "apt-get install g++, or CXX set to another one", f"torch {number}"
        )
    return Availability(detail=f"torch {number}, {_version(found)}")


@cache
def _version(compiler: str) -> str:
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    return said.stdout.partition("\n")[0] or compiler


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
