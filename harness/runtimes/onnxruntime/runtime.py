"""One execution provider as a runtime: its options, its sessions, and no silent run on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import Unavailable
from harness.runtimes import Availability
from harness.runtimes._options import THREADS, Choice, settle
from harness.runtimes.onnxruntime import library
from harness.runtimes.onnxruntime.library import BY_SHORT, CPU, Provider
from harness.runtimes.onnxruntime.placement import RECORD
from harness.runtimes.onnxruntime.session import DeviceOrtSession, OrtSession, refusals_named

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_CHOICES = {
    "optimization": Choice("how far onnxruntime may rewrite the graph", "all", tuple(_LEVELS)),
    "threads": THREADS,
    "iobinding": Choice("time with inputs and outputs bound to the device", "on", ("on", "off")),
}
_ALLOW = Choice("other providers on which nodes may run", "", tuple(BY_SHORT), several=True)
_DEVICE = Choice("the kind of device; without it, the first one that the provider finds", "", ("cpu", "gpu", "npu"))
_TF32 = Choice("TF32 for float32 matrix products and convolutions", "off", ("on", "off"))

FATAL = 4  # what is wrong comes back as an exception; it need not be logged as well


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime on ``provider``."""

    provider: Provider
    takes: Format = "onnx"

    @property
    def name(self) -> str:
        """``ort-cpu``, ``ort-cuda``, ..."""
        return f"ort-{self.provider.short}"

    @property
    def options(self) -> Mapping[str, str]:
        """Those of every provider, ``allow`` off the CPU, ``tf32`` on CUDA, and ``device`` for plugins."""
        return {key: str(choice) for key, choice in self._choices.items()}

    @property
    def _choices(self) -> Mapping[str, Choice]:
        allow = {} if self.provider.ep == CPU else {"allow": _ALLOW}
        tf32 = {"tf32": _TF32} if self.provider.has_tf32 else {}
        device = {"device": _DEVICE} if self.provider.plugins else {}
        return {**_CHOICES, **allow, **tf32, **device}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for an option that is not one of :attr:`options`."""
        settle(self.name, self._choices, options)

    def availability(self) -> Availability:
        """Whether the installed onnxruntime has the provider, and the provider a device."""
        return library.availability(self.provider)

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> OrtSession:
        """A session on the provider.

        Raises :class:`harness.errors.Unavailable` where onnxruntime would have run on the CPU instead, and
        :class:`harness.errors.Unsupported` where it says that it does not do what the model asks for.
        """
        settings = settle(self.name, self._choices, options)
        self.availability().require(self.name)
        ort = library.runtime()
        records = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
        device = self._device(settings)
        chosen = self.provider.quirks(int(settings["threads"]))
        if "tf32" in settings:
            chosen["use_tf32"] = str(int(settings["tf32"] == "on"))
        allowed = [BY_SHORT[short].ep for short in _allowed(settings)]

        def create(profile: str = "") -> Any:
            wanted = _session_options(settings, profile, records=records)
            path = str(artifact.path)
            return library.open_session(self.provider, path, wanted, chosen, device=device, others=allowed)

        kind = OrtSession if self.provider.memory == "cpu" else DeviceOrtSession
        about = library.described(self.provider, device)
        with refusals_named():
            session = kind(self.provider, settings, artifact.path, create, about, allowed=allowed, records=records)
        if self.provider.ep not in session.providers:
            said = f"{self.name}: onnxruntime gave up {self.provider.ep} for {', '.join(session.providers)}"
            raise Unavailable(f"{said}; {self.provider.bring}")
        return session

    def _device(self, settings: Mapping[str, str]) -> Any:
        """What a session is given of the devices of a plugin; None for a provider that is asked for by name.

        Raises :class:`Unavailable` where there is none of the kind that is asked for.
        """
        if not self.provider.plugins:
            return None
        kind = settings["device"]
        found = library.devices(self.provider, kind)
        if kind and not found:
            there = ", ".join(map(library.named, library.devices(self.provider))) or "no device through a plugin"
            raise Unavailable(f"{self.name}: it finds no {kind.upper()} here; it finds {there}")
        return next(iter(found), None)


def _allowed(settings: Mapping[str, str]) -> list[str]:
    return [short for short in settings.get("allow", "").split(",") if short]


def _session_options(settings: Mapping[str, str], profile: str, *, records: bool) -> Any:
    ort = library.runtime()
    wanted = ort.SessionOptions()
    wanted.log_severity_level = FATAL
    wanted.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[settings["optimization"]])
    wanted.intra_op_num_threads = int(settings["threads"])
    wanted.inter_op_num_threads = 1
    if records:
        wanted.add_session_config_entry(RECORD, "1")
    if profile:
        wanted.enable_profiling = True
        wanted.profile_file_prefix = profile
    return wanted
