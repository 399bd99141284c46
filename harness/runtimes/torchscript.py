"""TorchScript on the CPU and on CUDA, as it is loaded and after ``torch.jit.freeze``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.environment import installed
from harness.errors import Unsupported
from harness.runtimes import Availability
from harness.runtimes._options import THREADS, Choice, settle
from harness.runtimes._torch_session import CudaSession, ScriptSession, TorchSession

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_ON_OFF = ("on", "off")
_TF32 = Choice("TF32 for float32 matrix products and convolutions", "off", _ON_OFF)
_OPTIMIZE = Choice("torch.jit.optimize_for_inference after freezing", "off", _ON_OFF)


@dataclass(frozen=True, slots=True)
class TorchScript:
    """``torch.jit.load`` on one kind of device; ``frozen`` inlines the parameters first."""

    name: str
    device: Literal["cpu", "cuda"]
    frozen: bool = False
    takes: Format = "torchscript"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads``, and ``tf32`` on CUDA, ``optimize`` where frozen."""
        return {key: str(choice) for key, choice in self._choices.items()}

    @property
    def _choices(self) -> Mapping[str, Choice]:
        tf32 = {"tf32": _TF32} if self.device == "cuda" else {}
        optimize = {"optimize": _OPTIMIZE} if self.frozen else {}
        return {"threads": THREADS, **tf32, **optimize}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for an option that is not one of :attr:`options`."""
        settle(self.name, self._choices, options)

    def availability(self) -> Availability:
        """Whether torch is installed and, for CUDA, sees a device."""
        extra = f"pip install 'parity-harness[{self.device}]'"
        number = installed("torch")
        if number is None:
            return Availability("torch is not installed", extra)
        found = f"torch {number}"
        if self.device == "cpu":
            return Availability(detail=found)
        without = Availability(f"{found} is built without CUDA", f"in a fresh environment, {extra}", found)
        if number.endswith("+cpu"):
            return without
        try:
            import torch
        except (ImportError, OSError) as error:
            return Availability(f"torch does not load: {error}", extra)
        built_for: str | None = torch.version.cuda
        if built_for is None:
            return without
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about what the answer already says
            if not torch.cuda.is_available():
                bring = f"a machine with an NVIDIA GPU and a driver for CUDA {built_for}"
                return Availability("torch sees no CUDA device", bring, found, lacks_device=True)
            return Availability(detail=f"{found}, CUDA {built_for}, {torch.cuda.get_device_name()}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The module on its device; raises :class:`Unsupported` where a training module is to be frozen."""
        settings = settle(self.name, self._choices, options)
        self.availability().require(self.name)
        import torch

        module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
            str(artifact.path), map_location=self.device
        )
        if not self.frozen:
            kind = CudaSession if self.device == "cuda" else ScriptSession
            return kind(module, settings, self.device, "none")
        if module.training:
            raise Unsupported(f"{self.name}: a module in training mode cannot be frozen; use mode: eval, or torch-cpu")
        module = torch.jit.freeze(module)
        if settings["optimize"] == "on":
            module = torch.jit.optimize_for_inference(module)
            return TorchSession(module, settings, self.device, "freeze, optimize_for_inference")
        return TorchSession(module, settings, self.device, "freeze")


PROVIDES = (
    TorchScript("torch-cpu", "cpu"),
    TorchScript("torch-cuda", "cuda"),
    TorchScript("torch-frozen-cpu", "cpu", frozen=True),
)
