"""Tells an exporter's own "I do not support this" from every other way to fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import Unsupported


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn a refusal of the exporter into :class:`Unsupported` with its one-line root cause.

    Every other exception passes unchanged.
    """
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise Unsupported(reason, of_library=True) from error


def is_refusal(error: Exception) -> bool:
    """True for what :func:`refusals_named` made of a refusal."""
    return isinstance(error, Unsupported) and error.of_library


def refusal(error: BaseException) -> str | None:
    """What the exporter says that it does not support, in one line; None where ``error`` is another failure."""
    return next((_one_line(cause) for cause in _causes(error) if _refuses(cause)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from, the nearest first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        nearest = None if cause.__suppress_context__ else cause.__context__
        cause = nearest if cause.__cause__ is None else cause.__cause__


def _refuses(error: BaseException) -> bool:
    """By class where the class is public; by the exporter's fixed words where one class serves for much else."""
    from torch.jit.frontend import NotSupportedError
    from torch.onnx import OnnxExporterError
    from torch.onnx.errors import UnsupportedOperatorError

    if isinstance(error, (UnsupportedOperatorError, NotSupportedError)):
        return True
    words = ("No ONNX function found for", "Unsupported: ONNX export of")
    return isinstance(error, OnnxExporterError) and str(error).startswith(words)


def _one_line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return first.partition(". Please")[0]
