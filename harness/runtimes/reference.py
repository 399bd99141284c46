"""``onnx.reference``: the ONNX standard's own evaluator in Python. Slow, and no tie-breaker for pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.environment import installed
from harness.errors import Unsupported
from harness.onnx_arrays import with_ml_dtypes
from harness.runtimes import Array, Availability, Placement, Value, owned
from harness.runtimes._options import read_any, settle

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

# Shown on onnx 1.23: MaxPool's indices are wrong where there is more than one plane, shapes are wrong under asymmetric
# padding and under ceil_mode with a stride of 1, and NaN is passed over.
UNSOUND = "pools (indices over several planes, asymmetric padding, ceil_mode with stride 1, NaN)"


class ReferenceSession:
    """A ``ReferenceEvaluator``, held to the declared names, dtypes and shapes, which it would not look at itself."""

    def __init__(self, artifact: Artifact) -> None:
        from onnx.reference import ReferenceEvaluator

        self._signature = read_any(artifact.path)
        with _refusals_named():
            self._evaluator = ReferenceEvaluator(str(artifact.path))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names. Raises :class:`Unsupported` where one is no tensor."""
        answers = self.answer(inputs)
        for name, answer in answers.items():
            if not isinstance(answer, np.ndarray):
                raise Unsupported(f"{name} is no tensor; a tensor would do here")
        return {name: np.asarray(answer) for name, answer in answers.items()}

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The same for inputs and outputs of any kind."""
        self._signature.admit(inputs)
        with _refusals_named():
            answers = self._evaluator.run(None, {name: owned(value) for name, value in inputs.items()})
        named = zip(self._signature.outputs, answers, strict=True)
        return {
            name: owned(with_ml_dtypes(answer) if isinstance(answer, np.ndarray) else answer) for name, answer in named
        }

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on copies of ``inputs``."""
        self._signature.admit(inputs)
        return partial(self._evaluator.run, None, _copies(inputs))

    def placement(self) -> Placement | None:
        """None: everything runs in Python."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on, and for what the answers are no evidence."""
        return {
            "precision": "as NumPy computes",
            "threads": 1,
            "optimization": "none",
            "device": "cpu",
            "version": f"onnx {installed('onnx')}",
            "unsound_for": UNSOUND,
        }

    def close(self) -> None:
        """Give the evaluator back."""
        del self._evaluator


@dataclass(frozen=True, slots=True)
class Reference:
    """``reference``: it has no options."""

    name: str = "reference"
    takes: Format = "onnx"

    @property
    def options(self) -> Mapping[str, str]:
        """None."""
        return {}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for any option."""
        settle(self.name, {}, options)

    def availability(self) -> Availability:
        """Whether onnx is installed."""
        number = installed("onnx")
        if number is None:
            return Availability("onnx is not installed", "pip install onnx")
        return Availability(detail=f"onnx {number}; unsound for {UNSOUND}")

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> ReferenceSession:
        """The evaluator for the artifact."""
        self.check(options)
        self.availability().require(self.name)
        return ReferenceSession(artifact)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Turn what the evaluator says that it does not do, or not without another package, into harness's words."""
    try:
        yield
    except NotImplementedError as error:
        raise Unsupported(str(error).split(", schema", 1)[0].removesuffix(" in")) from error
    except ImportError as error:
        raise Unsupported(f"{error}; install what it names") from error


def _copies(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in inputs.items()}


PROVIDES = (Reference(),)
