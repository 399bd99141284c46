"""``torch.compile`` on the CPU: a ``torch.export`` program that inductor compiles at its first call."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.environment import install_command, installed_version
from harness.runtimes import Availability
from harness.runtimes._torch_session import TorchSession, takes_flat_inputs
from harness.runtimes._validation import THREADS, Option, describe_options, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_MODE = Option("how long inductor searches for fast kernels", "default", ("default", "max-autotune"))
_OPTIONS = {"threads": THREADS, "mode": _MODE}


@dataclass(frozen=True, slots=True)
class Compile:
    """``torch.compile`` of the program that ``torch.export.load`` reads.

    The first run compiles; its time is reported separately.
    """

    name: str = "compile-cpu"
    takes: Format = "program"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads`` and ``mode``."""
        return describe_options(_OPTIONS)

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, _OPTIONS, options)

    def availability(self) -> Availability:
        """Whether torch and a C++ compiler are installed."""
        return inductor_availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The program, which is compiled at its first call for each kind of shape."""
        settings = resolve_options(self.name, _OPTIONS, options)
        self.availability().require(self.name)
        import torch

        program = torch.export.load(artifact.path)
        module = program.module().requires_grad_(requires_grad=False)
        tuning = {"max_autotune": True} if settings["mode"] == "max-autotune" else {}
        call = takes_flat_inputs(program, torch.compile(module, options={"compile_threads": 1, **tuning}))
        return TorchSession(call, settings, "cpu", f"inductor, {settings['mode']}")


def inductor_availability() -> Availability:
    """Whether torch's inductor can compile for the CPU: with ``CXX`` if it is set, otherwise with g++."""
    version = installed_version("torch")
    if version is None:
        return Availability("torch is not installed", install_command("torch", "onnxscript"))
    compiler = os.environ.get("CXX", "g++")
    path = shutil.which(compiler)
    if path is None:
        install = "apt-get install g++, or set CXX to another compiler"
        return Availability(f"C++ compiler {compiler} not found", install, f"torch {version}")
    return Availability(detail=f"torch {version}, {_compiler_version(path)}")


@cache
def _compiler_version(compiler: str) -> str:
    result = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    return result.stdout.partition("\n")[0] or compiler


PROVIDES = (Compile(),)
