"""A loaded TorchScript module on a CUDA device: TF32 as the target sets it, the device waited for or asked its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness.runtimes import Array
from harness.runtimes._torch_session import ScriptSession, leaves


class CudaSession(ScriptSession):
    """A module on a CUDA device; every bound call waits for the device."""

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors on the device that returns when the device has finished."""
        from torch.cuda import synchronize

        call = super().bind(inputs)

        def waited() -> None:
            with self._tf32():
                call()
            synchronize(self._device)

        return waited

    def device_us(self, inputs: Mapping[str, Array], runs: int) -> list[float]:
        """Microseconds between two CUDA events around each run."""
        import torch

        call = super().bind(inputs)
        events = [(_event(), _event()) for _ in range(runs)]
        with self._tf32():
            for before, after in events:
                before.record()
                call()
                after.record()
        torch.cuda.synchronize(self._device)
        return [1e3 * before.elapsed_time(after) for before, after in events]

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Inputs from pageable host memory to the device, outputs of one run back."""
        import torch

        from harness.model.tensors import to_torch

        here = [to_torch(array) for array in inputs.values()]
        with self._as_set(), torch.inference_mode():
            there = list(leaves(self._module(*self._placed(inputs))))

        def carried() -> None:
            for tensor in here:
                tensor.to(self._device)
            for tensor in there:
                tensor.cpu()
            torch.cuda.synchronize(self._device)

        return carried

    def facts(self) -> Mapping[str, Any]:
        """Also which GPU, and whether TF32 may be used."""
        from torch.cuda import get_device_name

        tf32 = self._settings["tf32"]
        return {
            **super().facts(),
            "precision": f"as exported, TF32 {tf32}",
            "tf32": tf32,
            "device": f"{self._device}: {get_device_name(self._device)}",
        }

    @contextmanager
    def _as_set(self) -> Iterator[None]:
        with super()._as_set(), self._tf32():
            yield

    @contextmanager
    def _tf32(self) -> Iterator[None]:
        from torch.backends import cuda, cudnn

        before = cuda.matmul.allow_tf32, cudnn.allow_tf32
        cuda.matmul.allow_tf32 = cudnn.allow_tf32 = self._settings["tf32"] == "on"
        try:
            yield
        finally:
            cuda.matmul.allow_tf32, cudnn.allow_tf32 = before


def _event() -> Any:
    from torch.cuda import Event

    return Event(enable_timing=True)  # type: ignore[no-untyped-call]
