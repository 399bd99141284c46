"""Tells onnxruntime's own "I do not do this" from every other way to fail.

Between NumPy arrays and OrtValues, also for the dtypes that onnxruntime does not know NumPy to have.

A loaded ONNX model: runs, bound runs, and where its nodes run.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from harness.errors import Unsupported
from harness.runtimes import Array, Placement, Value, owned
from harness.runtimes.onnxruntime.library import CPU, Provider, runtime
from harness.runtimes.onnxruntime.placement import Assigned, place, profiled, recorded, shape_arithmetic

# How onnxruntime begins what it says: "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : ...".
_REFUSES = "NOT_IMPLEMENTED"
_MAY_REFUSE = ("FAIL", "RUNTIME_EXCEPTION", "INVALID_ARGUMENT")
_WORDS = (
    "is not a registered function/op",
    "not supported",
    "Unsupported model IR version",
    "is under development",
)


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn a refusal of onnxruntime into :class:`Unsupported`, in its own words; all else passes unchanged."""
    try:
        yield
    except Exception as error:
        said = refusal(str(error))
        if said is None:
            raise
        raise Unsupported(said) from error


def refusal(text: str) -> str | None:
    """What onnxruntime says that it does not do, in one line; None where ``text`` tells of another failure."""
    parts = text.split(" : ", 3)
    if len(parts) < 4 or parts[0] != "[ONNXRuntimeError]":
        return None
    _, _, code, said = parts
    if code == _REFUSES or (code in _MAY_REFUSE and any(word in said for word in _WORDS)):
        return " ".join(said.split("\n", 1)[0].split())
    return None


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A dtype of ml_dtypes: its number in ``onnx.TensorProto.DataType``, and its width in bits."""

    dtype: np.dtype[Any]
    number: int
    width: int


_FOREIGN = {
    "tensor(bfloat16)": _Foreign(np.dtype(ml_dtypes.bfloat16), 16, 16),
    "tensor(float8e4m3fn)": _Foreign(np.dtype(ml_dtypes.float8_e4m3fn), 17, 8),
    "tensor(float8e4m3fnuz)": _Foreign(np.dtype(ml_dtypes.float8_e4m3fnuz), 18, 8),
    "tensor(float8e5m2)": _Foreign(np.dtype(ml_dtypes.float8_e5m2), 19, 8),
    "tensor(float8e5m2fnuz)": _Foreign(np.dtype(ml_dtypes.float8_e5m2fnuz), 20, 8),
    "tensor(uint4)": _Foreign(np.dtype(ml_dtypes.uint4), 21, 4),
    "tensor(int4)": _Foreign(np.dtype(ml_dtypes.int4), 22, 4),
    "tensor(float4e2m1)": _Foreign(np.dtype(ml_dtypes.float4_e2m1fn), 23, 4),
    "tensor(float8e8m0)": _Foreign(np.dtype(ml_dtypes.float8_e8m0fnu), 24, 8),
    "tensor(uint2)": _Foreign(np.dtype(ml_dtypes.uint2), 25, 2),
    "tensor(int2)": _Foreign(np.dtype(ml_dtypes.int2), 26, 2),
}
_BY_DTYPE = {foreign.dtype: foreign for foreign in _FOREIGN.values()}


def needs_values(types: Mapping[str, str]) -> bool:
    """True where one of ``types`` (ONNX's names, by input or output) cannot pass through ``InferenceSession.run``."""
    return any(kind in _FOREIGN for kind in types.values())


def require_tensors(types: Mapping[str, str]) -> None:
    """Raises :class:`Unsupported` for an input or output that is a sequence, a map or optional."""
    for name, kind in types.items():
        if not kind.startswith("tensor("):
            raise Unsupported(f"{name} is a {kind}; a tensor would do here")


def to_value(array: Array) -> Any:
    """An OrtValue on the CPU. It may share memory with ``array``, which must outlive it."""
    values = runtime().OrtValue
    foreign = _BY_DTYPE.get(array.dtype)
    if foreign is None:
        return values.ortvalue_from_numpy(array)
    if foreign.width >= 8:
        bits = array.view(np.dtype(f"i{foreign.width // 8}" if foreign.width > 8 else "u1"))
        return values.ortvalue_from_numpy_with_onnx_type(bits, foreign.number)
    value = values.ortvalue_from_shape_and_type(list(array.shape), foreign.number, "cpu")
    held = _packed(array.view(np.uint8), foreign.width)
    ctypes.memmove(value.data_ptr(), held, len(held))
    return value


def from_value(value: Any) -> Array:
    """The array that an OrtValue on the CPU holds, in memory of its own."""
    foreign = _FOREIGN.get(value.data_type())
    if foreign is None:
        return np.array(value.numpy(), copy=True)
    shape = value.shape()
    held = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if foreign.width >= 8:
        return np.frombuffer(held, foreign.dtype).reshape(shape).copy()
    return _unpacked(held, foreign, int(np.prod(shape))).reshape(shape)


def _packed(elements: Array, width: int) -> bytes:
    """Several elements a byte, the first in the lowest bits, as ONNX packs them."""
    share = 8 // width
    low = elements.reshape(-1) & (2**width - 1)
    low = np.pad(low, (0, -low.size % share)).reshape(-1, share)
    shifts = np.arange(share, dtype=np.uint8) * width
    packed: Array = np.bitwise_or.reduce(low << shifts, axis=1).astype(np.uint8)
    return packed.tobytes()


def _unpacked(held: bytes, foreign: _Foreign, count: int) -> Array:
    shifts = np.arange(8 // foreign.width, dtype=np.uint8) * foreign.width
    low = (np.frombuffer(held, np.uint8)[:, None] >> shifts & (2**foreign.width - 1)).reshape(-1)[:count]
    if foreign.dtype.name.startswith("int"):
        sign = 2 ** (foreign.width - 1)
        low = (low.astype(np.int8) ^ sign) - sign
    elements: Array = low.view(foreign.dtype) if "float" in foreign.dtype.name else low.astype(foreign.dtype)
    return elements


class OrtSession:
    """An ``InferenceSession`` on one execution provider. Inputs and outputs go by the model's own names.

    ``create`` makes another session of the same model, ``about`` says on which device and in which versions, and
    ``records`` says whether it can tell where nodes run.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Mapping[str, str],
        path: Path,
        create: Callable[..., Any],
        about: Mapping[str, str],
        *,
        allowed: Collection[str],
        records: bool,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._path = path
        self._create = create
        self._about = about
        self._allowed = allowed
        self._records = records
        self._session = create()
        self._outputs = {output.name: output.type for output in self._session.get_outputs()}
        self._types = {item.name: item.type for item in self._session.get_inputs()} | self._outputs
        self._last: dict[str, Value] = {}
        self._answered = False
        self._kept: list[object] = []

    @property
    def providers(self) -> list[str]:
        """What onnxruntime says that the session uses; it may list one that runs nothing."""
        return list(self._session.get_providers())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names. onnxruntime itself objects to a name or a shape that the model lacks."""
        require_tensors(self._types)
        return {name: np.asarray(answer) for name, answer in self.answer(inputs).items()}

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The same for inputs and outputs of any kind.

        Raises :class:`harness.errors.Unsupported` for sequences, maps or optionals beside a dtype that only an
        OrtValue holds: bfloat16 and narrower.
        """
        # Not shared with the session's buffers, nor with an input that the model hands through.
        with refusals_named():
            if not needs_values(self._types):
                answers = [owned(value) for value in self._session.run(None, dict(inputs))]
            else:
                require_tensors(self._types)
                binding = self._bound({name: np.asarray(value) for name, value in inputs.items()}, "cpu")
                self._session.run_with_iobinding(binding)
                answers = [from_value(value) for value in binding.get_outputs()]
                self._kept.pop()
        if not self._records:
            self._last, self._answered = {name: owned(value) for name, value in inputs.items()}, True
        return dict(zip(self._outputs, answers, strict=True))

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on inputs that are on the device, with outputs that stay there; ``iobinding=off`` passes arrays."""
        require_tensors(self._types)
        if self._settings["iobinding"] == "off" and not needs_values(self._types):
            return partial(self._session.run, None, _copies(inputs))
        return self._bound_call(self._bound(inputs, self._provider.memory))

    def placement(self) -> Placement | None:
        """By provider and operator, with the nodes that are not where they should be.

        None where nothing was answered yet and onnxruntime is older than 1.24, which shows it by running again.
        """
        if not (self._records or self._answered):
            return None
        nodes = self._assigned()
        elsewhere = any(node.ep == CPU for node in nodes) and self._provider.ep != CPU
        return place(self._provider.ep, nodes, self._allowed, self._shape_nodes if elsewhere else ())

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on, with the provider options that the session really has."""
        tf32 = self._settings.get("tf32")
        chosen = self._session.get_provider_options().get(self._provider.ep, {})
        return {
            "precision": "as exported" if tf32 is None else f"as exported, TF32 {tf32}",
            **({} if tf32 is None else {"tf32": tf32}),
            "threads": int(self._settings["threads"]),
            "optimization": self._settings["optimization"],
            "iobinding": self._settings["iobinding"],
            **self._about,
            **({"provider_options": dict(chosen)} if chosen else {}),
        }

    def close(self) -> None:
        """Give the session back, and what bound calls needed."""
        del self._session
        self._kept.clear()

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        return partial(self._session.run_with_iobinding, binding)

    def _bound(self, inputs: Mapping[str, Array], memory: str, session: Any = None) -> Any:
        """A binding with ``inputs`` carried to where the session wants them, and outputs left in ``memory``.

        Of this session, or of another one of the same file.
        """
        given = _copies(inputs)
        values = {name: to_value(array) for name, array in given.items()}
        self._kept.append((given, values))  # the values share the arrays' memory, and the binding the values'
        binding = (session or self._session).io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, memory)
        binding.synchronize_inputs()
        return binding

    def _assigned(self) -> list[Assigned]:
        return recorded(self._session) if self._records else self._profile()

    def _profile(self) -> list[Assigned]:
        """A second session, profiled, on the inputs of the last run: profiling must never be on where time is taken."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._create(profile=str(Path(folder) / "profile"))
            if needs_values(self._types):
                arrays = {name: np.asarray(value) for name, value in self._last.items()}
                session.run_with_iobinding(self._bound(arrays, "cpu", session))
                self._kept.pop()
            else:
                session.run(None, self._last)
            return profiled(Path(session.end_profiling()))

    @cached_property
    def _shape_nodes(self) -> frozenset[str]:
        import onnx

        return shape_arithmetic(onnx.load(self._path, load_external_data=False).graph)


class DeviceOrtSession(OrtSession):
    """A session whose outputs stay on a device: every bound call waits for it, and transfers can be timed apart."""

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Inputs to the device, outputs of one run back."""
        binding = self._bound(inputs, self._provider.memory)
        self._session.run_with_iobinding(binding)
        values = {name: to_value(array) for name, array in _copies(inputs).items()}

        def carried() -> object:
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            binding.synchronize_inputs()
            return binding.copy_outputs_to_cpu()

        return carried

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        run = super()._bound_call(binding)

        def waited() -> None:
            run()
            binding.synchronize_outputs()

        return waited


def _copies(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array, order="C") for name, array in inputs.items()}
