"""tract: an inference engine written in Rust, which shares no kernel with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import install_command, installed_version
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement, contiguous_copies
from harness.runtimes._messages import informative_part
from harness.runtimes._validation import read_signature, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input, in the model's order."""


@dataclass(frozen=True, slots=True)
class Tract:
    """``tract`` on the CPU. It has no options."""

    name: str = "tract"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """Empty."""
        return {}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for any option."""
        resolve_options(self.name, {}, options)

    def availability(self) -> Availability:
        """Whether tract is installed."""
        version = installed_version("tract")
        if version is None:
            return Availability("tract is not installed", install_command("tract"))
        return Availability(detail=f"tract {version}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TractSession:
        """The model, optimized for this CPU."""
        self.check(options)
        self.availability().require(self.name)
        return TractSession(artifact)


class TractSession:
    """A ``Runnable`` of tract for each set of input shapes.

    tract binds inputs by order and names outputs by their nodes, so this class takes the names from the file. tract
    compiles a model for known dtypes and shapes. A model with open axes is therefore compiled when its inputs are
    known: at the first run or binding with each set of shapes.
    """

    def __init__(self, artifact: Artifact) -> None:
        import tract

        self._path = artifact.path
        self._signature = read_signature(artifact.path, tensors_only=True)
        for name, declared in self._signature.inputs.items():
            if declared.dtype.kind not in "biuf":
                dtype = "string" if declared.dtype.kind == "O" else declared.dtype
                raise Unsupported(f"input {name} is {dtype}; tract takes only numbers in NumPy's own dtypes")
        self._onnx = tract.onnx()
        self._model: Any = self._onnx.load(str(self._path))
        self._runnables: dict[_Shapes, Any] = {}
        declared_shapes = [declared.fixed_shape for declared in self._signature.inputs.values()]
        fixed_shapes = tuple(shape for shape in declared_shapes if shape is not None)
        if len(fixed_shapes) == len(declared_shapes):
            self._compiled(fixed_shapes)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names."""
        arrays = self._in_order(inputs)
        outputs = self._compiled(_shapes(arrays)).run(arrays)
        return {
            name: np.array(output.to_numpy(), copy=True)
            for name, output in zip(self._signature.outputs, outputs, strict=True)
        }

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on tensors that tract already holds; its outputs stay there."""
        import tract

        arrays = self._in_order(inputs)
        return partial(self._compiled(_shapes(arrays)).run, [tract.Tensor.from_numpy(array) for array in arrays])

    def placement(self) -> Placement | None:
        """None: the only device is the CPU."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on."""
        return {
            "precision": "as exported",
            "threads": 1,
            "optimization": "declutter and optimize",
            "device": "cpu",
            "version": f"tract {installed_version('tract')}",
        }

    def close(self) -> None:
        """Free the model."""
        self._runnables.clear()
        self._model = None

    def _in_order(self, inputs: Mapping[str, Array]) -> list[Array]:
        self._signature.check(inputs)
        copies = contiguous_copies(inputs)
        return [copies[name] for name in self._signature.inputs]

    def _compiled(self, shapes: _Shapes) -> Any:
        """The ``Runnable`` for inputs of these shapes. Raises :class:`Unsupported` for an operator that tract lacks."""
        if shapes not in self._runnables:
            model = self._model or self._onnx.load(str(self._path))
            self._model = None  # compiling consumes it
            for index, (shape, declared) in enumerate(zip(shapes, self._signature.inputs.values(), strict=True)):
                model.set_input_fact(index, ",".join([*map(str, shape), _type_name(declared.dtype)]))
            with _refusals_as_unsupported():
                self._runnables[shapes] = model.into_model().into_runnable()
        return self._runnables[shapes]


def _shapes(arrays: Sequence[Array]) -> _Shapes:
    return tuple(array.shape for array in arrays)


def _type_name(dtype: np.dtype[Any]) -> str:
    """The name of a dtype in tract: ``f32``, ``u8``, ``bool``."""
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"


@contextmanager
def _refusals_as_unsupported() -> Iterator[None]:
    """Turn tract's report of an operator that it does not implement into Unsupported; other exceptions pass unchanged.

    It begins ``Translating node #1 "name" Unimplemented(Operator)``.
    """
    from tract.bindings import TractError

    try:
        yield
    except TractError as error:
        if "Unimplemented(" not in str(error).partition("\n")[0]:
            raise
        raise Unsupported(informative_part(str(error))) from error


PROVIDES = (Tract(),)
