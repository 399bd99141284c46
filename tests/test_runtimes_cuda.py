"""The code for CUDA without a GPU, with fakes for torch.cuda and pynvml. A real device is not tested here."""

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
def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations on the device, in order. A run takes 0.25 ms by the events around it."""
    operations: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing, "an event without timing measures nothing"

        def record(self) -> None:
            operations.append("event")

        def elapsed_time(self, _end: Event) -> float:
            assert operations[-1] == "synchronize", "read before the device has finished"
            return 0.25

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: operations.append("synchronize"))
    return operations


def session(operations: list[str]) -> CudaSession:
    def run(x: torch.Tensor) -> torch.Tensor:
        operations.append("run")
        return x.relu()

    return CudaSession(run, {"threads": "1", "tf32": "off"}, "cpu", "none")


def test_a_bound_call_returns_when_the_device_has_finished(operations: list[str]) -> None:
    call = session(operations).bind({"x": X})
    operations.clear()
    call()
    assert operations == ["run", "synchronize"]


def test_each_run_is_between_two_events_that_are_read_after_all_runs(operations: list[str]) -> None:
    cuda_session = session(operations)
    cuda_session.bind({"x": X})
    operations.clear()
    assert cuda_session.device_us({"x": X}, 3) == [250.0] * 3
    assert operations[-10:] == ["event", "run", "event"] * 3 + ["synchronize"]


def test_a_transfer_computes_nothing_and_synchronizes(operations: list[str]) -> None:
    call = session(operations).transfer({"x": X})
    operations.clear()
    call()
    assert operations == ["synchronize"]


@pytest.mark.parametrize("mig", [False, True])
def test_a_gpu_is_described_with_its_driver_and_clocks(mig: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def clock(mhz: int) -> Any:
        def get_clock(_device: object, kind: int) -> int:
            assert kind == pynvml.NVML_CLOCK_SM
            if mig:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return mhz

        return get_clock

    fakes = {
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
    for name, call in fakes.items():
        monkeypatch.setattr(pynvml, name, call)
    (gpu,) = environment.describe()["gpus"]
    assert (gpu["name"], gpu["driver"], gpu["compute_capability"], gpu["memory_gib"]) == ("H100", "595.1", "9.0", 80.0)
    assert (gpu["sm_mhz"], gpu["max_sm_mhz"]) == ((None, None) if mig else (1980, 1990))
