"""Sessions of loaded torch modules: on the CPU, with gradients for TorchScript, and on a CUDA device.

Each run sets torch's process-wide settings (threads, TF32) as the target requests, and restores them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.runtimes import Array, NodeTimes, Placement
from harness.runtimes._profiles import profiled_times
from harness.spec.language.inputs.structure import Structure, arguments, in_order

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch.export import ExportedProgram


class TorchSession:
    """A callable that torch loaded. Inputs are bound by order; outputs are named ``output_0``, ``output_1``, ..."""

    def __init__(
        self,
        module: Callable[..., Any],
        settings: Mapping[str, str],
        device: str,
        optimization: str,
        structure: Structure | None = None,
    ) -> None:
        """``structure`` says how the module takes nested inputs; None if it takes tensors by position."""
        import torch

        self._labels = () if structure is None else in_order(structure)
        self._structure = structure

        self._module = module
        self._settings = settings
        self._device = torch.device(device)
        self._optimization = optimization
        self._threads_before = torch.get_num_threads()
        self._copies_inputs = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs on the host. The arrays are not changed, and the module sees their memory layout."""
        import torch

        from harness.model.tensors import to_numpy

        # Not inference_mode: its tensors have no version, which TorchScript's views need while layers are recorded.
        with self._settings_applied(), torch.no_grad():
            outputs = self._call(*self._on_device(inputs))
            return {f"output_{index}": to_numpy(tensor) for index, tensor in enumerate(tensor_leaves(outputs))}

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that are already on the device.

        It sets torch's thread count if that differs; :meth:`close` restores it.
        """
        from torch import get_num_threads, set_num_threads

        from harness.model.running import repeatable_call

        with self._settings_applied():
            module = self._module if self._structure is None else self._call
            call, self._copies_inputs = repeatable_call(module, self._on_device(inputs))
        threads = int(self._settings["threads"])

        def call_with_threads() -> object:
            if get_num_threads() != threads:
                set_num_threads(threads)
            return call()

        return call_with_threads

    def node_times(self, inputs: Mapping[str, Array], runs: int, trace: Path) -> Sequence[NodeTimes]:
        """The times of the operations by torch's profiler. Raises :class:`Unsupported` on another device than the CPU.

        A device computes after the operation has returned.
        """
        if self._device.type != "cpu":
            raise Unsupported(f"times per operation are measured on the CPU only, not on {self._device}")
        return profiled_times(self.bind(inputs), runs, trace, self._module)

    def placement(self) -> Placement | None:
        """None: a module has one device."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on. ``copies_inputs`` is there if a bound call must copy: the module works in place."""
        import torch

        copies = {"copies_inputs": True} if self._copies_inputs else {}
        return {
            "precision": ", ".join(["as exported", *lowered_products()]),
            "threads": int(self._settings["threads"]),
            "optimization": self._optimization,
            "device": str(self._device),
            "version": f"torch {torch.__version__}",
            **copies,
        }

    def close(self) -> None:
        """Free the module, and restore torch's thread count."""
        import torch

        del self._module
        torch.set_num_threads(self._threads_before)

    def _call(self, *tensors: torch.Tensor) -> Any:
        if self._structure is None:
            return self._module(*tensors)
        return self._module(*arguments(self._structure, dict(zip(self._labels, tensors, strict=True))))

    def _on_device(self, inputs: Mapping[str, Array]) -> list[torch.Tensor]:
        from harness.model.tensors import to_torch

        return [to_torch(array).to(self._device) for array in inputs.values()]

    @contextmanager
    def _settings_applied(self) -> Iterator[None]:
        """Set torch's process-wide settings as the target requests, and restore them afterwards."""
        import torch

        threads_before = torch.get_num_threads()
        torch.set_num_threads(int(self._settings["threads"]))
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)


class ScriptSession(TorchSession):
    """A TorchScript module with its parameters, so that gradients can be computed."""

    _module: torch.jit.ScriptModule

    def gradients(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :class:`harness.runtimes.Differentiable`.

        Raises :class:`harness.errors.Unsupported` if the first output has no gradient.
        """
        import torch

        from harness.model.tensors import to_numpy

        with self._settings_applied(), torch.enable_grad():
            input_tensors = dict(zip(inputs, self._on_device(inputs), strict=True))
            tensors = {**dict(self._module.named_parameters()), **input_tensors}
            variables = {
                name: tensor.requires_grad_() for name, tensor in tensors.items() if tensor.is_floating_point()
            }
            # An in-place layer may not write to a leaf of the autograd graph, so it gets copies.
            output = next(tensor_leaves(self._call(*(tensor.clone() for tensor in input_tensors.values()))))
            if not output.requires_grad:
                raise Unsupported(
                    f"output_0 has no gradient ({output.dtype}); "
                    "only a floating-point output that depends on an input or a parameter has one"
                )
            gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
                output.sum(), list(variables.values()), allow_unused=True
            )
        return {
            name: to_numpy(torch.zeros_like(tensor) if gradient is None else gradient)
            for (name, tensor), gradient in zip(variables.items(), gradients, strict=True)
        }


class CudaSession(ScriptSession):
    """A module on a CUDA device, with TF32 as the target sets it. Each bound call waits for the device."""

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors on the device that returns when the device has finished."""
        from torch.cuda import synchronize

        call = super().bind(inputs)

        def call_and_synchronize() -> None:
            with self._tf32_applied():
                call()
            synchronize(self._device)

        return call_and_synchronize

    def device_us(self, inputs: Mapping[str, Array], runs: int) -> list[float]:
        """Microseconds between two CUDA events around each run."""
        import torch

        call = super().bind(inputs)
        events = [(_timing_event(), _timing_event()) for _ in range(runs)]
        with self._tf32_applied():
            for start, end in events:
                start.record()
                call()
                end.record()
        torch.cuda.synchronize(self._device)
        return [1e3 * start.elapsed_time(end) for start, end in events]

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that copies the inputs from pageable host memory to the device, and the outputs of one run back."""
        import torch

        from harness.model.tensors import to_torch

        host_inputs = [to_torch(array) for array in inputs.values()]
        with self._settings_applied(), torch.inference_mode():
            device_outputs = list(tensor_leaves(self._call(*self._on_device(inputs))))

        def copy_both_ways() -> None:
            for tensor in host_inputs:
                tensor.to(self._device)
            for tensor in device_outputs:
                tensor.cpu()
            torch.cuda.synchronize(self._device)

        return copy_both_ways

    def facts(self) -> Mapping[str, Any]:
        """The facts of a torch session, with the GPU and whether TF32 is allowed."""
        from torch.cuda import get_device_name

        tf32 = self._settings["tf32"]
        return {
            **super().facts(),
            "precision": ", ".join(["as exported", f"TF32 {tf32}"]),
            "tf32": tf32,
            "device": f"{self._device}: {get_device_name(self._device)}",
        }

    @contextmanager
    def _settings_applied(self) -> Iterator[None]:
        with super()._settings_applied(), self._tf32_applied():
            yield

    @contextmanager
    def _tf32_applied(self) -> Iterator[None]:
        from torch.backends import cuda, cudnn

        before = cuda.matmul.allow_tf32, cudnn.allow_tf32
        cuda.matmul.allow_tf32 = cudnn.allow_tf32 = self._settings["tf32"] == "on"
        try:
            yield
        finally:
            cuda.matmul.allow_tf32, cudnn.allow_tf32 = before


def tensor_leaves(value: object) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dictionaries, in order. None is not an output, as in eager torch.

    Raises :class:`harness.errors.Unsupported` for a value of another type.
    """
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensor_leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensor_leaves(item)
    elif value is not None:
        raise Unsupported(
            f"an output has type {type(value).__name__}; "
            "only tensors, and tuples, lists and dictionaries of tensors, can be compared"
        )


def takes_flat_inputs(program: ExportedProgram, call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, which takes the arguments that ``program`` was exported with, for its tensors by position.

    ``call`` itself, if these are tensors by position.
    """
    from torch.utils import _pytree as pytree

    inputs, spec = program.graph_signature.user_inputs, program.call_spec.in_spec
    count = sum(isinstance(each, str) for each in inputs)  # what is no name is a constant, such as None
    if spec is None or spec == pytree.tree_flatten((tuple(range(count)), {}))[1]:
        return call

    def call_flat(*tensors: torch.Tensor) -> Any:
        if len(tensors) != count:
            return call(*tensors)  # torch says what is missing
        given = iter(tensors)
        leaves = [next(given) if isinstance(each, str) else each for each in inputs]
        positional, by_name = pytree.tree_unflatten(leaves, spec)
        return call(*positional, **by_name)

    return call_flat


def _timing_event() -> Any:
    from torch.cuda import Event

    return Event(enable_timing=True)  # type: ignore[no-untyped-call]


def lowered_products() -> list[str]:
    """What ``torch.set_float32_matmul_precision`` allows, if a module or its import has called it."""
    import torch

    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError as error:  # settings for single backends, which this function refuses to sum up
        return [f"float32 products as set for each backend ({str(error).partition('.')[0][:80]})"]
    return [] if precision == "highest" else [f"float32 products in {precision} precision"]
