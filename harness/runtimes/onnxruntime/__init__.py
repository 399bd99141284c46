"""ONNX Runtime: one runtime per execution provider, ``ort-cpu``, ``ort-cuda`` and so on. None falls back to the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import Unavailable
from harness.runtimes import Availability
from harness.runtimes._validation import TF32, THREADS, Option, describe_options, resolve_options
from harness.runtimes.onnxruntime import library
from harness.runtimes.onnxruntime.library import CPU, LOG_FATAL_ONLY, PROVIDERS, PROVIDERS_BY_SHORT_NAME, Provider
from harness.runtimes.onnxruntime.placement import RECORD_PLACEMENT
from harness.runtimes.onnxruntime.session import DeviceOrtSession, OrtSession, refusals_as_unsupported

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_OPTIMIZATION_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_COMMON_OPTIONS = {
    "optimization": Option("level of onnxruntime's graph optimization", "all", tuple(_OPTIMIZATION_LEVELS)),
    "threads": THREADS,
    "iobinding": Option("time with inputs and outputs bound to the device", "on", ("on", "off")),
    "gelu": Option("Gelu as exported, or its faster approximation", "exact", ("exact", "approximate")),
    "fastmath": Option("float32 products in bfloat16 where an Arm CPU has them", "off", ("on", "off")),
    "custom_ops": Option("library of custom operators, with --allow-import", "", is_path=True),
}
_ALLOW = Option("other providers that nodes may run on", "", tuple(PROVIDERS_BY_SHORT_NAME), multiple=True)
_DEVICE = Option("kind of device; default: the first device that the provider finds", "", ("cpu", "gpu", "npu"))


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime on ``provider``."""

    provider: Provider
    takes: Format = "onnx"
    also_takes: tuple[Format, ...] = ("ort",)
    libraries: ClassVar[frozenset[str]] = frozenset({"custom_ops"})

    @property
    def name(self) -> str:
        """``ort-cpu``, ``ort-cuda``, ..."""
        return f"ort-{self.provider.short_name}"

    @property
    def options(self) -> Mapping[str, str]:
        """The options of every provider, with ``allow`` off the CPU, ``tf32`` on CUDA, and ``device`` for plugins."""
        return describe_options(self._options)

    @property
    def _options(self) -> Mapping[str, Option]:
        allow = {} if self.provider.ep == CPU else {"allow": _ALLOW}
        tf32 = {"tf32": TF32} if self.provider.has_tf32 else {}
        device = {"device": _DEVICE} if self.provider.plugins else {}
        return {**_COMMON_OPTIONS, **allow, **tf32, **device}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, self._options, options)

    def availability(self) -> Availability:
        """Whether the installed onnxruntime has the provider, and the provider has a device."""
        return library.availability(self.provider)

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> OrtSession:
        """A session on the provider.

        Raises :class:`harness.errors.Unavailable` if onnxruntime would run on the CPU instead, and
        :class:`harness.errors.Unsupported` if onnxruntime reports that it does not support the model.
        """
        settings, path = resolve_options(self.name, self._options, options), artifact.path
        self.availability().require(self.name)
        ort = library.load_onnxruntime()
        records_placement = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
        device = self._device(settings)
        provider_options = self.provider.fixed_options(int(settings["threads"]))
        if "tf32" in settings:
            provider_options["use_tf32"] = str(int(settings["tf32"] == "on"))
        allowed = [PROVIDERS_BY_SHORT_NAME[name].ep for name in _allowed_names(settings)]

        def create_session(profile: str = "") -> Any:
            return library.open_session(
                self.provider,
                str(path),
                _session_options(settings, profile, records_placement=records_placement),
                provider_options,
                device=device,
                fallback_providers=allowed,
            )

        session_class = OrtSession if self.provider.memory == "cpu" else DeviceOrtSession
        facts = library.device_facts(self.provider, device)
        with refusals_as_unsupported():
            session = session_class(
                self.provider,
                settings,
                path,
                create_session,
                facts,
                allowed=allowed,
                records_placement=records_placement,
            )
        if self.provider.ep not in session.providers:
            raise Unavailable(
                f"{self.name}: onnxruntime dropped {self.provider.ep} and would run on {', '.join(session.providers)}; "
                f"install with: {self.provider.install}"
            )
        return session

    def _device(self, settings: Mapping[str, str]) -> Any:
        """The plugin's device for the session; None for a provider that is requested by name.

        Raises :class:`Unavailable` if there is no device of the requested kind.
        """
        if not self.provider.plugins:
            return None
        kind = settings["device"]
        devices = library.devices(self.provider, kind)
        if kind and not devices:
            names = ", ".join(map(library.device_name, library.devices(self.provider))) or "no device of a plugin"
            raise Unavailable(f"{self.name}: no {kind.upper()} found; found: {names}")
        return next(iter(devices), None)


def _allowed_names(settings: Mapping[str, str]) -> list[str]:
    return [name for name in settings.get("allow", "").split(",") if name]


def _session_options(settings: Mapping[str, str], profile: str, *, records_placement: bool) -> Any:
    ort = library.load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL_ONLY
    level = _OPTIMIZATION_LEVELS[settings["optimization"]]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = int(settings["threads"])
    options.inter_op_num_threads = 1
    if custom_ops := settings["custom_ops"]:
        # Without an absolute path the loader would search the system's folders.
        options.register_custom_ops_library(str(Path(getattr(custom_ops, "path", custom_ops)).absolute()))
    if settings["gelu"] == "approximate":
        options.add_session_config_entry("optimization.enable_gelu_approximation", "1")
    if settings["fastmath"] == "on":
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    if records_placement:
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return options


PROVIDES = tuple(OnnxRuntime(provider) for provider in PROVIDERS)
