"""Where a run takes place: versions, operating system, CPU, memory, GPUs. Nothing here imports what it asks about.

Which installed libraries are older than what harness needs: its own metadata against theirs.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import RuntimeMissing

# onnxruntime is published under one name for each build; all of them hold the module ``onnxruntime``.
ONNXRUNTIME = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-cann",
    "onnxruntime-webgpu",
    "onnxruntime-windowsml",
)
_PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes", "scipy", "openvino", "tract")

# Instruction sets that decide which kernels the runtimes choose.
_FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)


def describe() -> Mapping[str, Any]:
    """Everything that figures and verdicts may depend on; what cannot be found out is None.

    Memory is in GiB, frequencies are in MHz.
    """
    import psutil

    return {
        "harness": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": versions(),
        "onnxruntime_builds": list(onnxruntime_builds()),
        "os": platform.platform(),
        "machine": platform.machine(),
        "board": _first_line(Path("/proc/device-tree/model")),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": list(_gpus()),
        "threads": {key: os.environ[key] for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if key in os.environ},
    }


@cache
def versions() -> Mapping[str, str]:
    """The version of each package that ``when`` in a list of known failures may name; not installed = not there."""
    found = {name: installed(name) for name in _PACKAGES}
    found["onnxruntime"] = next(map(installed, onnxruntime_builds()), None)
    numbers = {name: number for name, number in sorted(found.items()) if number is not None}
    return {"harness": __version__, "python": platform.python_version(), **numbers}


@cache
def installed(distribution: str) -> str | None:
    """The version of ``distribution``; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def onnxruntime_builds() -> tuple[str, ...]:
    """Under which names onnxruntime is installed: one at most in a sound environment."""
    return tuple(name for name in ONNXRUNTIME if installed(name) is not None)


def _cpu() -> Mapping[str, Any]:
    import psutil

    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    policy = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "model": facts.get("model name") or facts.get("hardware") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "features": [name for name in _FEATURES if name in flags],
        "governor": _first_line(policy / "scaling_governor"),
        "mhz": None if frequency is None else round(frequency.current),
        "max_mhz": None if frequency is None or not frequency.max else round(frequency.max),
    }


@cache
def processor() -> str:
    """The CPU by its name and by all that it can do: what code that is compiled here may rely on."""
    facts = _cpuinfo()
    named = (platform.machine(), *(facts.get(key, "") for key in ("model name", "hardware", "flags", "features")))
    return " ".join(filter(None, named))


def _cpuinfo() -> dict[str, str]:
    """The first processor's facts in ``/proc/cpuinfo``, by their names in lower case; empty elsewhere than on Linux."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _gpus() -> Iterator[Mapping[str, Any]]:
    """Each NVIDIA GPU as its driver tells; none where nvidia-ml-py or the driver is not there."""
    if sys.platform == "darwin" or installed("nvidia-ml-py") is None:
        return
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
            yield {
                "name": pynvml.nvmlDeviceGetName(device),
                "memory_gib": round(pynvml.nvmlDeviceGetMemoryInfo(device).total / 2**30, 1),
                "compute_capability": f"{major}.{minor}",
                "driver": driver,
                "sm_mhz": _clock(pynvml.nvmlDeviceGetClockInfo, device),
                "max_sm_mhz": _clock(pynvml.nvmlDeviceGetMaxClockInfo, device),
            }
    finally:
        pynvml.nvmlShutdown()


def _clock(ask: Callable[[Any, int], int], device: Any) -> int | None:
    """The clock of the multiprocessors; None where the driver does not tell, as under MIG."""
    import pynvml

    try:
        return ask(device, pynvml.NVML_CLOCK_SM)
    except pynvml.NVMLError:
        return None


DISTRIBUTION = "parity-harness"
STACK = "cpu"
"""The extra that names torch, its exporter and ONNX Runtime, each with the oldest version that works."""

FOR_SPECS = frozenset({"torch", "onnxscript"})


def require_supported(*, torch: bool) -> None:
    """Raise :class:`RuntimeMissing` where a library is too old to run checks with, before it fails by itself.

    ``torch`` is False where nothing is built or exported, so that torch is not imported.
    """
    if (line := unsupported(torch=torch)) is not None:
        raise RuntimeMissing(line)


@cache
def unsupported(*, torch: bool = True) -> str | None:
    """One line about every library that is missing or too old, and how to install it; None if there is none.

    A harness that is not installed declares nothing, so nothing is known of it.
    """
    try:
        wrong = dict(_wrong(torch=torch))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "packaging":
            raise
        wrong = {"packaging is not installed": "packaging"}
    if not wrong:
        return None
    return f"{', '.join(wrong)}; install with: pip install {' '.join(dict.fromkeys(wrong.values()))}"


def _wrong(*, torch: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with a library, and the requirement that would be right, quoted for a shell."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, declared):
        in_every_installation = requirement.marker is None
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": STACK}):
            continue
        if requirement.name in FOR_SPECS and not torch:
            continue
        for name in ONNXRUNTIME if requirement.name == "onnxruntime" else (requirement.name,):
            found = installed(name)
            right = f"'{name}{requirement.specifier}'"
            if found is None:
                if in_every_installation:
                    yield f"{name} is not installed", right
                continue
            try:
                # A build from source may call itself 2.9.0a0+git: it has what 2.9 has.
                base = Version(found).base_version
            except InvalidVersion:
                continue
            if not requirement.specifier.contains(base):
                yield f"{name} {found} is too old for harness", right
