"""The machine and the installed packages: what a report records, and what is missing or too old for harness.

Nothing here imports the packages that it looks up; their metadata answers.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness import __version__
from harness.deprecated import accept_old_names
from harness.errors import RuntimeMissing, describe_error

ONNXRUNTIME_DISTRIBUTIONS = (
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
"""The builds of ONNX Runtime: each is a distribution of its own, and all of them hold the module ``onnxruntime``."""

_PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes", "scipy", "openvino", "tract")

# Instruction sets that decide which kernels the runtimes choose.
_INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)


def describe() -> Mapping[str, Any]:
    """Everything on this machine that latencies and statuses may depend on; None for what cannot be determined.

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
    """The version of each installed package that ``when`` in a list of known failures may name."""
    installed = {name: installed_version(name) for name in _PACKAGES}
    installed["onnxruntime"] = next(map(installed_version, onnxruntime_builds()), None)
    present = {name: version for name, version in sorted(installed.items()) if version is not None}
    return {"harness": __version__, "python": platform.python_version(), **present}


@cache
def installed_version(distribution: str) -> str | None:
    """The version of ``distribution``; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and not needed for --help

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def onnxruntime_builds() -> tuple[str, ...]:
    """The installed distributions of ONNX Runtime; at most one in a sound environment."""
    return tuple(name for name in ONNXRUNTIME_DISTRIBUTIONS if installed_version(name) is not None)


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
        "usable": usable_cpus(),
        "features": [name for name in _INSTRUCTION_SETS if name in flags],
        "governor": _first_line(policy / "scaling_governor"),
        "mhz": None if frequency is None else round(frequency.current),
        "max_mhz": None if frequency is None or not frequency.max else round(frequency.max),
    }


@cache
def cpu_signature() -> str:
    """The CPU's name and instruction sets as one string: what code that is compiled here may rely on."""
    facts = _cpuinfo()
    parts = (platform.machine(), *(facts.get(key, "") for key in ("model name", "hardware", "flags", "features")))
    return " ".join(filter(None, parts))


def usable_cpus() -> int:
    """How many CPUs this process may use: those that it is bound to, or all where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """The fields of the first processor in ``/proc/cpuinfo``, with names in lower case; empty if not on Linux."""
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
    """Each NVIDIA GPU as its driver describes it; none without nvidia-ml-py or without a driver."""
    if sys.platform == "darwin" or installed_version("nvidia-ml-py") is None:
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


def _clock(query: Callable[[Any, int], int], device: Any) -> int | None:
    """The clock of the multiprocessors in MHz; None if the driver does not report it, as under MIG."""
    import pynvml

    try:
        return query(device, pynvml.NVML_CLOCK_SM)
    except pynvml.NVMLError:
        return None


DISTRIBUTION = "parity-harness"
CPU_EXTRA = "cpu"
"""The extra that requires torch, its exporter and ONNX Runtime, each with the oldest version that works."""

BUILD_DISTRIBUTIONS = frozenset({"torch", "onnxscript"})
"""Distributions that are needed only to build and export a model."""


def require_dependencies(*, torch: bool) -> None:
    """Raise :class:`RuntimeMissing` if a library is missing or too old to run checks with.

    ``torch`` is False if nothing is built or exported, so that torch is not imported.
    """
    if (line := dependency_problem(torch=torch)) is not None:
        raise RuntimeMissing(line)


@cache
def dependency_problem(*, torch: bool = True) -> str | None:
    """One line that names every library that is missing or too old, and how to install it; None if there is none.

    None also if harness is not installed: it then declares no requirements.
    """
    try:
        problems = dict(_dependency_problems(torch=torch))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "packaging":
            raise
        problems = {"packaging is not installed": "packaging"}
    if not problems:
        return None
    return f"{', '.join(problems)}; install with: pip install {' '.join(dict.fromkeys(problems.values()))}"


def import_problem(error: ImportError) -> str:
    """One line about a failed import: the libraries that are missing or too old, or else ``error`` itself."""
    return dependency_problem() or f"a library cannot be loaded: {describe_error(error)}; reinstall it with pip"


def _dependency_problems(*, torch: bool) -> Iterator[tuple[str, str]]:
    """Each library that is missing or too old, with the requirement to install, quoted for a shell."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    for requirement in map(Requirement, _declared_requirements()):
        is_mandatory = requirement.marker is None
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": CPU_EXTRA}):
            continue
        if requirement.name in BUILD_DISTRIBUTIONS and not torch:
            continue
        for name in ONNXRUNTIME_DISTRIBUTIONS if requirement.name == "onnxruntime" else (requirement.name,):
            version = installed_version(name)
            to_install = f"'{name}{requirement.specifier}'"
            if version is None:
                if is_mandatory:
                    yield f"{name} is not installed", to_install
                continue
            try:
                # A build from source may call itself 2.9.0a0+git: it has what 2.9 has.
                base_version = Version(version).base_version
            except InvalidVersion:
                continue
            if not requirement.specifier.contains(base_version):
                yield f"{name} {version} is too old for harness", to_install


def install_command(*names: str) -> str:
    """``pip install`` with the distributions ``names``, each with the versions that harness takes where they are known.

    It names no extra of harness: the package is on no index.
    """
    from packaging.requirements import Requirement

    specifiers = {each.name: str(each.specifier) for each in map(Requirement, _declared_requirements())}
    return f"pip install {' '.join(_quoted(name + specifiers.get(name, '')) for name in names)}"


def _quoted(requirement: str) -> str:
    return f"'{requirement}'" if set("<>=~! ") & set(requirement) else requirement


def name_clash() -> str | None:
    """One line if a distribution called ``harness`` is installed too, which is another project; None if there is none.

    Both may hold a module of that name, and then the one that was installed last has overwritten the other's files.
    """
    version = installed_version("harness")
    if version is None:
        return None
    fix = f"run pip uninstall harness, then install {DISTRIBUTION} again"
    return f"harness {version} is installed too: another project of PyPI that may overwrite this one's files; {fix}"


def _declared_requirements() -> list[str]:
    """The requirements in harness's own metadata; empty if harness is not installed."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


accept_old_names(__name__)
