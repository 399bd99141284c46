"""A loaded TorchScript module on the CPU; the module is torch's, the process-wide switches are put back.

A loaded TorchScript module on a CUDA device: TF32 as the target sets it, the device waited for or asked its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.runtimes import Array, Placement

if TYPE_CHECKING:
    import torch


class TorchSession:
    """What torch has loaded to be called. Inputs are bound by order, outputs are called ``output_0``, ..."""

    def __init__(self, module: Callable[..., Any], settings: Mapping[str, str], device: str, optimization: str) -> None:
        import torch

        self._module = module
        self._settings = settings
        self._device = torch.device(device)
        self._optimization = optimization
        self._threads_before = torch.get_num_threads()
        self._copies_inputs = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs on the host; the arrays given keep their values and their layout reaches the module."""
        import torch

        from harness.model.tensors import to_numpy

        with self._as_set(), torch.inference_mode():
            outputs = self._module(*self._placed(inputs))
            return {f"output_{index}": to_numpy(leaf) for index, leaf in enumerate(leaves(outputs))}

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors already on the device; torch's thread count stays as it sets it until :meth:`close`."""
        from torch import get_num_threads, set_num_threads

        from harness.model.reference import repeatable

        with self._as_set():
            call, self._copies_inputs = repeatable(self._module, self._placed(inputs))
        threads = int(self._settings["threads"])

        def timed() -> object:
            if get_num_threads() != threads:
                set_num_threads(threads)
            return call()

        return timed

    def placement(self) -> Placement | None:
        """None: a module has one device."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on; ``copies_inputs`` where a bound call must, since the module works in place."""
        import torch

        copies = {"copies_inputs": True} if self._copies_inputs else {}
        return {
            "precision": "as exported",
            "threads": int(self._settings["threads"]),
            "optimization": self._optimization,
            "device": str(self._device),
            "version": f"torch {torch.__version__}",
            **copies,
        }

    def close(self) -> None:
        """Give the module back, and torch its thread count."""
        import torch

        del self._module
        torch.set_num_threads(self._threads_before)

    def _placed(self, inputs: Mapping[str, Array]) -> list[torch.Tensor]:
        from harness.model.tensors import to_torch

        return [to_torch(array).to(self._device) for array in inputs.values()]

    @contextmanager
    def _as_set(self) -> Iterator[None]:
        """Torch's process-wide switches as the target sets them, and afterwards as they were."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(int(self._settings["threads"]))
        try:
            yield
        finally:
            torch.set_num_threads(before)


class ScriptSession(TorchSession):
    """A module whose parameters are still there, so that it can be differentiated."""

    _module: torch.jit.ScriptModule

    def gradients(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As :class:`harness.runtimes.Differentiable` says.

        Raises :class:`harness.errors.Unsupported` where the first output has no gradient.
        """
        import torch

        from harness.model.tensors import to_numpy

        with self._as_set(), torch.enable_grad():
            given = dict(zip(inputs, self._placed(inputs), strict=True))
            held = {**dict(self._module.named_parameters()), **given}
            wanted = {name: tensor.requires_grad_() for name, tensor in held.items() if tensor.is_floating_point()}
            # A layer in place may not write to a leaf of the graph, so that it is given copies.
            first = next(leaves(self._module(*(tensor.clone() for tensor in given.values()))))
            if not first.requires_grad:
                raise Unsupported(f"output_0 has no gradient ({first.dtype}); only a floating output has one")
            found: Sequence[torch.Tensor | None] = torch.autograd.grad(
                first.sum(), list(wanted.values()), allow_unused=True
            )
        return {
            name: to_numpy(torch.zeros_like(tensor) if gradient is None else gradient)
            for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
        }


def leaves(value: object) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists and dictionaries, in order. None is no output, nor is it in eager torch."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif value is not None:
        raise Unsupported(f"an output is a {type(value).__name__}; harness compares tensors, nested as you like")


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
