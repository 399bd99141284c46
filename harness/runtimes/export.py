"""``torch.export`` programs on the CPU, run operator by operator as they were saved, without a compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.environment import install_command, installed_version
from harness.runtimes import Availability
from harness.runtimes._torch_session import TorchSession, takes_flat_inputs
from harness.runtimes._validation import THREADS, describe_options, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_OPTIONS = {"threads": THREADS}


@dataclass(frozen=True, slots=True)
class Export:
    """The module of the program that ``torch.export.load`` reads."""

    name: str = "export-cpu"
    takes: Format = "program"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads``."""
        return describe_options(_OPTIONS)

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, _OPTIONS, options)

    def availability(self) -> Availability:
        """Whether torch is installed."""
        version = installed_version("torch")
        if version is None:
            return Availability("torch is not installed", install_command("torch", "onnxscript"))
        return Availability(detail=f"torch {version}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The program as a module."""
        settings = resolve_options(self.name, _OPTIONS, options)
        self.availability().require(self.name)
        import torch

        program = torch.export.load(artifact.path)
        module = program.module().requires_grad_(requires_grad=False)
        return TorchSession(takes_flat_inputs(program, module), settings, "cpu", "none")


PROVIDES = (Export(),)
