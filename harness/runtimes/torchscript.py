"""TorchScript on the CPU and on CUDA: a module as it was loaded, or after ``torch.jit.freeze``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.environment import install_command, installed_version
from harness.errors import Unsupported
from harness.exporters._files import STRUCTURE_FILE, read_structure
from harness.runtimes import Availability
from harness.runtimes._torch_session import CudaSession, ScriptSession, TorchSession
from harness.runtimes._validation import TF32, THREADS, Option, describe_options, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_OPTIMIZE = Option("torch.jit.optimize_for_inference after freezing", "off", ("on", "off"))


@dataclass(frozen=True, slots=True)
class TorchScript:
    """``torch.jit.load`` on one kind of device. If ``frozen``, ``torch.jit.freeze`` inlines the parameters."""

    name: str
    device: Literal["cpu", "cuda"]
    frozen: bool = False
    takes: Format = "torchscript"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads``, with ``tf32`` on CUDA and ``optimize`` if frozen."""
        return describe_options(self._options)

    @property
    def _options(self) -> Mapping[str, Option]:
        tf32 = {"tf32": TF32} if self.device == "cuda" else {}
        optimize = {"optimize": _OPTIMIZE} if self.frozen else {}
        return {"threads": THREADS, **tf32, **optimize}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, self._options, options)

    def availability(self) -> Availability:
        """Whether torch is installed and, for CUDA, finds a device."""
        version = installed_version("torch")
        build = f"torch {version}"
        if version is not None and self.device == "cpu":
            return Availability(detail=build)
        install = install_command("torch", "onnxscript")  # it reads files, and each check asks
        if version is None:
            return Availability("torch is not installed", install)
        without_cuda = Availability(f"{build} is built without CUDA", f"in a fresh environment, {install}", build)
        if version.endswith("+cpu"):
            return without_cuda
        try:
            import torch
        except (ImportError, OSError) as error:
            return Availability(f"torch does not load: {error}", install)
        cuda_version: str | None = torch.version.cuda
        if cuda_version is None:
            return without_cuda
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the result already says what torch warns about
            if not torch.cuda.is_available():
                needed = f"a machine with an NVIDIA GPU and a driver for CUDA {cuda_version}"
                return Availability("torch finds no CUDA device", needed, build, lacks_device=True)
            return Availability(detail=f"{build}, CUDA {cuda_version}, {torch.cuda.get_device_name()}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The module on its device. Raises :class:`Unsupported` if a module in training mode is to be frozen."""
        settings = resolve_options(self.name, self._options, options)
        self.availability().require(self.name)
        import torch

        from harness.model.user_modules import load_torchscript, with_numbers_from_tensors

        extra_files = {STRUCTURE_FILE: ""}
        module = load_torchscript(artifact.path, self.device, extra_files)
        structure = artifact.structure or read_structure(extra_files)
        if not self.frozen:
            session_class = CudaSession if self.device == "cuda" else ScriptSession
            return session_class(with_numbers_from_tensors(module), settings, self.device, "none", structure)
        if getattr(module, "training", False):  # a module that is frozen already has no mode
            raise Unsupported(f"{self.name}: a module in training mode cannot be frozen; use mode: eval, or torch-cpu")
        module = torch.jit.freeze(module)
        if settings["optimize"] == "on":
            module = torch.jit.optimize_for_inference(module)
            return TorchSession(module, settings, self.device, "freeze, optimize_for_inference", structure)
        return TorchSession(module, settings, self.device, "freeze", structure)


PROVIDES = (
    TorchScript("torch-cpu", "cpu"),
    TorchScript("torch-cuda", "cuda"),
    TorchScript("torch-frozen-cpu", "cpu", frozen=True),
)
