"""The environment is described without importing the packages in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.version import Version

from harness import environment
from harness.result import to_json


def test_versions_are_the_installed_ones() -> None:
    versions = environment.versions()
    names = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
    present = [name for name in names if environment.installed_version(name) is not None]
    assert {"onnx", "numpy"} <= set(present)
    for name in present:
        assert versions[name] == version(name)
    assert Version(versions["python"]) >= Version("3.10")
    assert versions["harness"] == environment.describe()["harness"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"torch", "onnxruntime"}
    monkeypatch.setattr(environment, "installed_version", lambda name: None if name in missing else "1.0")
    environment.versions.cache_clear()
    try:
        versions = environment.versions()
    finally:
        environment.versions.cache_clear()
    assert "torch" not in versions
    assert versions["onnxruntime"] == "1.0", "one of the other builds holds the same module"


def test_the_build_of_onnxruntime_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "installed_version", {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}.get)
    assert environment.onnxruntime_builds() == ("onnxruntime", "onnxruntime-gpu")


def test_a_distribution_that_is_not_installed() -> None:
    assert environment.installed_version("no-such-distribution-anywhere") is None


def test_the_description_goes_into_a_report() -> None:
    description = json.loads(json.dumps(to_json(environment.describe()), allow_nan=False))
    assert description["cpu"]["model"]
    assert description["cpu"]["usable"] >= 1
    assert description["memory_gib"] > 0
    assert isinstance(description["gpus"], list)


def test_describing_imports_no_slow_library() -> None:
    code = (
        "import sys; from harness.environment import describe; describe();"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'onnxscript', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert environment.describe()["gpus"] == []
