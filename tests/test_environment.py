"""The environment is told without importing what it tells of."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.version import Version

from harness import environment
from harness.result import to_json


def test_versions_are_those_that_are_installed() -> None:
    found = environment.versions()
    named = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
    present = [name for name in named if environment.installed(name) is not None]
    assert {"onnx", "numpy"} <= set(present)
    for name in present:
        assert found[name] == version(name)
    assert Version(found["python"]) >= Version("3.10")
    assert found["harness"] == environment.describe()["harness"]


def test_what_is_not_installed_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"torch", "onnxruntime"}
    monkeypatch.setattr(environment, "installed", lambda name: None if name in missing else "1.0")
    environment.versions.cache_clear()
    try:
        found = environment.versions()
    finally:
        environment.versions.cache_clear()
    assert "torch" not in found
    assert found["onnxruntime"] == "1.0", "one of the other builds holds the same module"


def test_the_build_of_onnxruntime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "installed", {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}.get)
    assert environment.onnxruntime_builds() == ("onnxruntime", "onnxruntime-gpu")


def test_a_distribution_that_is_not_there() -> None:
    assert environment.installed("no-such-distribution-anywhere") is None


def test_the_description_goes_into_a_report() -> None:
    told = environment.describe()
    again = json.loads(json.dumps(to_json(told), allow_nan=False))
    assert again["cpu"]["model"]
    assert again["cpu"]["usable"] >= 1
    assert again["memory_gib"] > 0
    assert isinstance(again["gpus"], list)


def test_describing_imports_no_slow_library() -> None:
    code = (
        "import sys; from harness.environment import describe; describe();"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'onnxscript', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == ""


def test_gpus_are_none_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert environment.describe()["gpus"] == []
