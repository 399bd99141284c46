"""CUDA's logic without a GPU: the library is played at its seam. What it comes to on a device is not shown here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness import environment
from harness.runtimes._torch_session import CudaSession

X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the device, in order; a run takes 0.25 ms by the events around it."""
    asked: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing, "an event without timing tells none"

        def record(self) -> None:
            asked.append("event")

        def elapsed_time(self, _other: Event) -> float:
            assert asked[-1] == "wait", "asked before the device had finished"
            return 0.25

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: asked.append("wait"))
    return asked


def session(order: list[str]) -> CudaSession:
    def run(x: torch.Tensor) -> torch.Tensor:
        order.append("run")
        return x.relu()

    return CudaSession(run, {"threads": "1", "tf32": "off"}, "cpu", "none")


def test_a_bound_call_returns_when_the_device_has_finished(order: list[str]) -> None:
    call = session(order).bind({"x": X})
    order.clear()
    call()
    assert order == ["run", "wait"]


def test_each_run_stands_between_two_events_and_they_are_read_once_all_is_done(order: list[str]) -> None:
    loaded = session(order)
    loaded.bind({"x": X})
    order.clear()
    assert loaded.device_us({"x": X}, 3) == [250.0] * 3
    assert order[-10:] == ["event", "run", "event"] * 3 + ["wait"]


def test_a_transfer_computes_nothing_and_waits(order: list[str]) -> None:
    carried = session(order).transfer({"x": X})
    order.clear()
    carried()
    assert order == ["wait"]


@pytest.mark.parametrize("mig", [False, True])
def test_a_gpu_is_told_with_its_driver_and_its_clocks(mig: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def clock(of: int) -> Any:
        def ask(_device: object, which: int) -> int:
            assert which == pynvml.NVML_CLOCK_SM
            if mig:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return of

        return ask

    played = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "595.1",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda _index: "gpu",
        "nvmlDeviceGetCudaComputeCapability": lambda _device: (9, 0),
        "nvmlDeviceGetName": lambda _device: "H100",
        "nvmlDeviceGetMemoryInfo": lambda _device: SimpleNamespace(total=80 * 2**30),
        "nvmlDeviceGetClockInfo": clock(1980),
        "nvmlDeviceGetMaxClockInfo": clock(1990),
    }
    for name, call in played.items():
        monkeypatch.setattr(pynvml, name, call)
    (gpu,) = environment.describe()["gpus"]
    assert (gpu["name"], gpu["driver"], gpu["compute_capability"], gpu["memory_gib"]) == ("H100", "595.1", "9.0", 80.0)
    assert (gpu["sm_mhz"], gpu["max_sm_mhz"]) == ((None, None) if mig else (1980, 1990))
