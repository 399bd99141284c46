"""``harness doctor`` lists what is available, what lacks a device, and how to install the rest."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from harness import environment
from harness.explain.process import ProcessEnd, SeparateProcess
from harness.exporters._dynamo_cache import _SPEED_UPS
from harness.registry import plugins
from harness.runtimes import Availability
from tests.conftest import Call

NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="speed-ups are torch's, which is not installed")


def rows(printed: str) -> dict[str, str]:
    return {line.split()[0]: line for line in printed.partition("\npackage")[0].splitlines()[2:] if line[:1].strip()}


def test_every_runtime_has_a_row_with_its_state_and_how_to_install_it(harness: Call) -> None:
    ran = harness("doctor", "--all")
    lines = rows(ran.out)
    assert ran.code == 0
    assert lines.keys() == plugins("runtimes").keys()
    for name, runtime in plugins("runtimes").items():
        available = runtime.availability()
        assert f" {available.state} " in lines[name]
        assert available.present or available.install


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(harness: Call, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, harness("doctor").out.splitlines())) <= width


def test_what_needs_another_system_or_cpu_is_folded_into_a_line(harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes: dict[str, Any] = {
        "here": Fake(Availability(detail="1.0")),
        "apple": Fake(Availability("not built in", "pip install onnxruntime, on macOS")),
        "board": Fake(Availability("not built in", "an onnxruntime built with --use_acl, on an Arm CPU")),
        "any-cpu": Fake(Availability("not built in", "an onnxruntime built with --use_dnnl, on an x86-64 or Arm CPU")),
        "gpu": Fake(Availability("not built in", "pip install x, on a machine with an NVIDIA GPU")),
    }
    monkeypatch.setattr("harness.registry.plugins", lambda _kind: fakes)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    ran = harness("doctor")
    assert list(rows(ran.out.partition("\nFor other")[0] + "\npackage")) == ["here", "any-cpu", "gpu"]
    assert "\nFor other machines, listed by --all: apple (macOS), board (Arm CPU)\n" in ran.out
    assert list(rows(harness("doctor", "--all").out)) == ["here", "any-cpu", "apple", "board", "gpu"]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "listed by --all: apple (macOS)\n" in harness("doctor").out


def test_another_project_called_harness_is_told(harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = environment.installed_version
    assert "another project" not in harness("doctor").err
    monkeypatch.setattr(
        "harness.environment.installed_version", lambda name: "2.0" if name == "harness" else installed(name)
    )
    assert "harness 2.0 is installed too: another project of PyPI" in harness("doctor").err


class Fake:
    def __init__(self, state: Availability) -> None:
        self.state = state

    def availability(self) -> Availability:
        return self.state


def test_a_runtime_without_a_device_is_distinguished_from_an_absent_one(
    harness: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes: dict[str, Any] = {
        "a-absent": Fake(Availability("not installed", "pip install it")),
        "b-idle": Fake(Availability("no GPU is seen", "a GPU", lacks_device=True)),
    }
    monkeypatch.setattr("harness.registry.plugins", lambda _kind: fakes)
    ran = harness("doctor")
    assert ran.code == 3, "nothing at all can run"
    lines = rows(ran.out)
    assert list(lines) == ["b-idle", "a-absent"]
    assert "no device" in lines["b-idle"]
    assert "absent" in lines["a-absent"]
    assert "pip install it" in lines["a-absent"]


@NEEDS_TORCH
def test_it_lists_the_speed_ups_of_the_installed_torch(harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    on = harness("doctor").out.rpartition("Speed-ups of onnx-dynamo: ")[2]
    assert on.split(" on")[0].replace("\n ", "").split(", ") == [
        *(speed_up.name for speed_up in _SPEED_UPS),
        "capture",
        "prepare",
    ]


@NEEDS_TORCH
def test_it_says_why_a_speed_up_is_off(harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"registry": "this torch has no ONNXRegistry", "split": None}
    monkeypatch.setattr(SeparateProcess, "call", lambda *_, **__: states)
    out = harness("doctor").out
    assert "Speed-ups of onnx-dynamo: split on\nregistry is off: this torch has no ONNXRegistry\n" in out
    monkeypatch.setattr(
        SeparateProcess,
        "call",
        lambda *_, **__: ProcessEnd("export", "the process was killed by SIGKILL", timed_out=False),
    )
    assert "Speed-ups of onnx-dynamo: not tried: the process was killed by SIGKILL" in harness("doctor").out
