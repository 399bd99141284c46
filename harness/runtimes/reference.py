"""``reference``: the evaluator in Python that the ONNX standard comes with (``onnx.reference``).

It is slow, and its pools are not sound enough to decide between other runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data_files.onnx_files import with_ml_dtypes
from harness.environment import installed_version
from harness.errors import Unsupported
from harness.runtimes import Array, Availability, Placement, Value, copied
from harness.runtimes._validation import read_signature, resolve_options

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

# Found with onnx 1.23: MaxPool's indices are wrong with more than one plane, shapes are wrong with asymmetric padding
# and with ceil_mode and a stride of 1, and NaN is ignored.
UNSOUND = "pools (indices over several planes, asymmetric padding, ceil_mode with stride 1, NaN)"


@dataclass(frozen=True, slots=True)
class Reference:
    """The runtime ``reference``. It has no options."""

    name: str = "reference"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """Empty."""
        return {}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for any option."""
        resolve_options(self.name, {}, options)

    def availability(self) -> Availability:
        """Whether onnx is installed."""
        version = installed_version("onnx")
        if version is None:
            return Availability("onnx is not installed", "pip install onnx")
        return Availability(detail=f"onnx {version}; unsound for {UNSOUND}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> ReferenceSession:
        """A session of the artifact."""
        self.check(options)
        self.availability().require(self.name)
        return ReferenceSession(artifact)


class ReferenceSession:
    """A ``ReferenceEvaluator`` with a check of the declared names, dtypes and shapes, which it does not do itself."""

    def __init__(self, artifact: Artifact) -> None:
        from onnx.reference import ReferenceEvaluator

        self._signature = read_signature(artifact.path, tensors_only=False)
        with _refusals_as_unsupported():
            self._evaluator = ReferenceEvaluator(str(artifact.path))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names. Raises :class:`Unsupported` if one is not a tensor."""
        outputs = self.answer(inputs)
        for name, output in outputs.items():
            if not isinstance(output, np.ndarray):
                raise Unsupported(f"{name} is not a tensor; this check takes only tensors")
        return {name: np.asarray(output) for name, output in outputs.items()}

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The outputs by the model's names, for inputs and outputs of any kind."""
        self._signature.check(inputs)
        with _refusals_as_unsupported():
            outputs = self._evaluator.run(None, {name: copied(value) for name, value in inputs.items()})
        return {
            name: copied(with_ml_dtypes(output) if isinstance(output, np.ndarray) else output)
            for name, output in zip(self._signature.outputs, outputs, strict=True)
        }

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on copies of ``inputs``."""
        self._signature.check(inputs)
        return partial(self._evaluator.run, None, {name: np.array(array) for name, array in inputs.items()})

    def placement(self) -> Placement | None:
        """None: everything runs in Python."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What latencies depend on, and the operators that the evaluator is unsound for."""
        return {
            "precision": "as NumPy computes",
            "threads": 1,
            "optimization": "none",
            "device": "cpu",
            "version": f"onnx {installed_version('onnx')}",
            "unsound_for": UNSOUND,
        }

    def close(self) -> None:
        """Free the evaluator."""
        del self._evaluator


@contextmanager
def _refusals_as_unsupported() -> Iterator[None]:
    """Turn the evaluator's report of what it does not implement, or not without a package, into Unsupported."""
    try:
        yield
    except NotImplementedError as error:
        raise Unsupported(str(error).split(", schema", 1)[0].removesuffix(" in")) from error
    except ImportError as error:
        raise Unsupported(f"{error}; install the package that it names") from error


PROVIDES = (Reference(),)
