"""A loaded ONNX model in onnxruntime: runs, bound runs for timing, and where its nodes run.

Below the sessions: conversion between NumPy arrays and OrtValues, with the dtypes of ml_dtypes, which onnxruntime does
not accept as NumPy arrays; and the translation of onnxruntime's refusals.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from harness.errors import Unsupported
from harness.runtimes import Array, NodeTimes, Placement, Value, contiguous_copies, copied
from harness.runtimes.onnxruntime.library import CPU, Provider, load_onnxruntime
from harness.runtimes.onnxruntime.placement import (
    PROFILE_WARMUP,
    PlacedNode,
    count_nodes,
    profiled_nodes,
    profiled_times,
    recorded_nodes,
    shape_nodes,
)


class CreateSession(Protocol):
    """Creates sessions of one model."""

    def __call__(self, profile: str = "") -> Any:
        """A new ``InferenceSession``; with ``profile``, a profiled one that writes to a file with this prefix."""
        ...


class OrtSession:
    """An ``InferenceSession`` on one execution provider, with the model's own names of inputs and outputs.

    ``device_facts`` are the device and the versions, for :meth:`facts`. ``records_placement`` says whether the sessions
    of ``create_session`` record where nodes run.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Mapping[str, str],
        path: Path,
        create_session: CreateSession,
        device_facts: Mapping[str, str],
        *,
        allowed: Collection[str],
        records_placement: bool,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._path = path
        self._create_session = create_session
        self._device_facts = device_facts
        self._allowed = allowed
        self._records_placement = records_placement
        self._session = create_session()
        self._output_types = {output.name: output.type for output in self._session.get_outputs()}
        self._types = {item.name: item.type for item in self._session.get_inputs()} | self._output_types
        self._last_inputs: dict[str, Value] | None = None
        self._bound_memory: list[object] = []

    @property
    def providers(self) -> list[str]:
        """The providers that onnxruntime says the session uses; one of them may run no node."""
        return list(self._session.get_providers())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names. onnxruntime itself refuses a name or a shape that the model lacks."""
        _require_tensors(self._types)
        return {name: np.asarray(output) for name, output in self.answer(inputs).items()}

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The outputs by the model's names, for inputs and outputs of any kind.

        Raises :class:`harness.errors.Unsupported` for sequences, maps or optionals together with a dtype that only an
        OrtValue can hold: bfloat16 and narrower.
        """
        with refusals_as_unsupported():
            if not _needs_ort_values(self._types):
                # Copies, because an output may share memory with the session's buffers or with an input.
                outputs = [copied(value) for value in self._session.run(None, dict(inputs))]
            else:
                _require_tensors(self._types)
                binding = self._binding({name: np.asarray(value) for name, value in inputs.items()}, "cpu")
                self._session.run_with_iobinding(binding)
                outputs = [from_ort_value(value) for value in binding.get_outputs()]
                self._bound_memory.pop()
        if not self._records_placement:
            self._last_inputs = {name: copied(value) for name, value in inputs.items()}
        return dict(zip(self._output_types, outputs, strict=True))

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on inputs that are on the device, with outputs that stay there; with ``iobinding=off``, on arrays."""
        _require_tensors(self._types)
        if self._settings["iobinding"] == "off" and not _needs_ort_values(self._types):
            return partial(self._session.run, None, contiguous_copies(inputs))
        return self._bound_call(self._binding(inputs, self._provider.memory))

    def placement(self) -> Placement | None:
        """The nodes by provider and operator, and the stray nodes.

        None if there was no run yet and onnxruntime is older than 1.24: then the placement comes from a second run.
        """
        if not self._records_placement and self._last_inputs is None:
            return None
        nodes = recorded_nodes(self._session) if self._records_placement else self._nodes_of_profiled_run()
        some_on_cpu = any(node.ep == CPU for node in nodes) and self._provider.ep != CPU
        return count_nodes(self._provider.ep, nodes, self._allowed, self._shape_nodes if some_on_cpu else ())

    def node_times(self, inputs: Mapping[str, Array], runs: int, trace: Path) -> Sequence[NodeTimes]:
        """The times of the kernels by onnxruntime's own profile, in a session of its own."""
        _require_tensors(self._types)
        with tempfile.TemporaryDirectory() as folder:
            session = self._create_session(profile=str(Path(folder) / "profile"))
            binding = self._binding(inputs, self._provider.memory, session)
            for _ in range(PROFILE_WARMUP + runs):
                session.run_with_iobinding(binding)
            self._bound_memory.pop()
            shutil.move(session.end_profiling(), trace)
        return profiled_times(trace, runs)

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on, with the provider options that the session reports."""
        tf32 = self._settings.get("tf32")
        provider_options = self._session.get_provider_options().get(self._provider.ep, {})
        changed = [] if tf32 is None else [f"TF32 {tf32}"]
        changed += ["Gelu approximated"] if self._settings.get("gelu") == "approximate" else []
        changed += ["bfloat16 products allowed on Arm"] if self._settings.get("fastmath") == "on" else []
        return {
            "precision": ", ".join(["as exported", *changed]),
            **({} if tf32 is None else {"tf32": tf32}),
            "threads": int(self._settings["threads"]),
            "optimization": self._settings["optimization"],
            "iobinding": self._settings["iobinding"],
            **self._device_facts,
            **({"provider_options": dict(provider_options)} if provider_options else {}),
        }

    def close(self) -> None:
        """Free the session and the memory of bound calls."""
        del self._session
        self._bound_memory.clear()

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        return partial(self._session.run_with_iobinding, binding)

    def _binding(self, inputs: Mapping[str, Array], memory: str, session: Any = None) -> Any:
        """A binding with ``inputs`` copied to the session's device and outputs that stay in ``memory``.

        ``session`` is another session of the same model; default: the session of this object.
        """
        arrays = contiguous_copies(inputs)
        values = {name: to_ort_value(array) for name, array in arrays.items()}
        # The binding uses the memory of the values, which use the memory of the arrays: keep both.
        self._bound_memory.append((arrays, values))
        binding = (session or self._session).io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._output_types:
            binding.bind_output(name, memory)
        binding.synchronize_inputs()
        return binding

    def _nodes_of_profiled_run(self) -> list[PlacedNode]:
        """The nodes from a second, profiled session on the inputs of the last run.

        A session that is timed must never be profiled.
        """
        inputs = self._last_inputs or {}
        with tempfile.TemporaryDirectory() as folder:
            session = self._create_session(profile=str(Path(folder) / "profile"))
            if _needs_ort_values(self._types):
                arrays = {name: np.asarray(value) for name, value in inputs.items()}
                session.run_with_iobinding(self._binding(arrays, "cpu", session))
                self._bound_memory.pop()
            else:
                session.run(None, inputs)
            return profiled_nodes(Path(session.end_profiling()))

    @cached_property
    def _shape_nodes(self) -> frozenset[str]:
        import onnx

        return shape_nodes(onnx.load(self._path, load_external_data=False).graph)


class DeviceOrtSession(OrtSession):
    """A session with outputs on a device: each bound call waits for the device, and transfers can be timed."""

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that copies the inputs to the device, and the outputs of one run back."""
        binding = self._binding(inputs, self._provider.memory)
        self._session.run_with_iobinding(binding)
        values = {name: to_ort_value(array) for name, array in contiguous_copies(inputs).items()}

        def copy_both_ways() -> object:
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            binding.synchronize_inputs()
            return binding.copy_outputs_to_cpu()

        return copy_both_ways

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        run = super()._bound_call(binding)

        def run_and_synchronize() -> None:
            run()
            binding.synchronize_outputs()

        return run_and_synchronize


@dataclass(frozen=True, slots=True)
class _MlDtype:
    """A dtype of ml_dtypes: its number in ``onnx.TensorProto.DataType``, and its width in bits."""

    dtype: np.dtype[Any]
    number: int
    width: int


_ML_DTYPES = {
    "tensor(bfloat16)": _MlDtype(np.dtype(ml_dtypes.bfloat16), 16, 16),
    "tensor(float8e4m3fn)": _MlDtype(np.dtype(ml_dtypes.float8_e4m3fn), 17, 8),
    "tensor(float8e4m3fnuz)": _MlDtype(np.dtype(ml_dtypes.float8_e4m3fnuz), 18, 8),
    "tensor(float8e5m2)": _MlDtype(np.dtype(ml_dtypes.float8_e5m2), 19, 8),
    "tensor(float8e5m2fnuz)": _MlDtype(np.dtype(ml_dtypes.float8_e5m2fnuz), 20, 8),
    "tensor(uint4)": _MlDtype(np.dtype(ml_dtypes.uint4), 21, 4),
    "tensor(int4)": _MlDtype(np.dtype(ml_dtypes.int4), 22, 4),
    "tensor(float4e2m1)": _MlDtype(np.dtype(ml_dtypes.float4_e2m1fn), 23, 4),
    "tensor(float8e8m0)": _MlDtype(np.dtype(ml_dtypes.float8_e8m0fnu), 24, 8),
    "tensor(uint2)": _MlDtype(np.dtype(ml_dtypes.uint2), 25, 2),
    "tensor(int2)": _MlDtype(np.dtype(ml_dtypes.int2), 26, 2),
}
_ML_DTYPE_BY_DTYPE = {ml_dtype.dtype: ml_dtype for ml_dtype in _ML_DTYPES.values()}


def _needs_ort_values(types: Mapping[str, str]) -> bool:
    """True if one of ``types`` (ONNX's type names by input or output) cannot pass through ``InferenceSession.run``."""
    return any(type_name in _ML_DTYPES for type_name in types.values())


def _require_tensors(types: Mapping[str, str]) -> None:
    """Raise :class:`Unsupported` for an input or output that is a sequence, a map or an optional."""
    for name, type_name in types.items():
        if not type_name.startswith("tensor("):
            raise Unsupported(f"{name} is a {type_name}; this check takes only tensors")


def to_ort_value(array: Array) -> Any:
    """An OrtValue on the CPU. It may share memory with ``array``, which must outlive it."""
    ort_value = load_onnxruntime().OrtValue
    ml_dtype = _ML_DTYPE_BY_DTYPE.get(array.dtype)
    if ml_dtype is None:
        return ort_value.ortvalue_from_numpy(array)
    if ml_dtype.width >= 8:
        bits = array.view(np.dtype(f"i{ml_dtype.width // 8}" if ml_dtype.width > 8 else "u1"))
        return ort_value.ortvalue_from_numpy_with_onnx_type(bits, ml_dtype.number)
    value = ort_value.ortvalue_from_shape_and_type(list(array.shape), ml_dtype.number, "cpu")
    packed = _packed(array.view(np.uint8), ml_dtype.width)
    ctypes.memmove(value.data_ptr(), packed, len(packed))
    return value


def from_ort_value(value: Any) -> Array:
    """A copy of the array that an OrtValue on the CPU holds."""
    ml_dtype = _ML_DTYPES.get(value.data_type())
    if ml_dtype is None:
        return np.array(value.numpy(), copy=True)
    shape = value.shape()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if ml_dtype.width >= 8:
        return np.frombuffer(data, ml_dtype.dtype).reshape(shape).copy()
    return _unpacked(data, ml_dtype, int(np.prod(shape))).reshape(shape)


def _packed(elements: Array, width: int) -> bytes:
    """Several elements per byte, the first in the lowest bits, as ONNX packs them."""
    per_byte = 8 // width
    low_bits = elements.reshape(-1) & (2**width - 1)
    low_bits = np.pad(low_bits, (0, -low_bits.size % per_byte)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * width
    packed: Array = np.bitwise_or.reduce(low_bits << shifts, axis=1).astype(np.uint8)
    return packed.tobytes()


def _unpacked(data: bytes, ml_dtype: _MlDtype, count: int) -> Array:
    shifts = np.arange(8 // ml_dtype.width, dtype=np.uint8) * ml_dtype.width
    low_bits = (np.frombuffer(data, np.uint8)[:, None] >> shifts & (2**ml_dtype.width - 1)).reshape(-1)[:count]
    if ml_dtype.dtype.name.startswith("int"):
        sign = 2 ** (ml_dtype.width - 1)
        low_bits = (low_bits.astype(np.int8) ^ sign) - sign
    is_float = "float" in ml_dtype.dtype.name
    elements: Array = low_bits.view(ml_dtype.dtype) if is_float else low_bits.astype(ml_dtype.dtype)
    return elements


# An error of onnxruntime begins "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : ...".
_REFUSAL_CODE = "NOT_IMPLEMENTED"
_AMBIGUOUS_CODES = ("FAIL", "RUNTIME_EXCEPTION", "INVALID_ARGUMENT")
_REFUSAL_WORDS = (
    "is not a registered function/op",
    "not supported",
    "Unsupported model IR version",
    "is under development",
)


@contextmanager
def refusals_as_unsupported() -> Iterator[None]:
    """Turn a refusal of onnxruntime into :class:`Unsupported` with its message; other exceptions pass unchanged."""
    try:
        yield
    except Exception as error:
        reason = refusal_reason(str(error))
        if reason is None:
            raise
        raise Unsupported(reason) from error


def refusal_reason(text: str) -> str | None:
    """What onnxruntime does not support, in one line; None if ``text`` is the message of another failure."""
    parts = text.split(" : ", 3)
    if len(parts) < 4 or parts[0] != "[ONNXRuntimeError]":
        return None
    _, _, code, message = parts
    if code == _REFUSAL_CODE or (code in _AMBIGUOUS_CODES and any(words in message for words in _REFUSAL_WORDS)):
        return " ".join(message.split("\n", 1)[0].split())
    return None
