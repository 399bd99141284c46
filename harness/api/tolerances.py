"""A tolerance of the Python API, written as in a spec, as the rules that outputs are held to."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

from harness.errors import UsageError
from harness.spec.case import CaseTolerance
from harness.spec.tolerance import Scaled
from harness.spec.tolerances import tolerance as parsed


def unscaled(written: Any) -> CaseTolerance:
    """What ``written`` says; nothing where it is None.

    Raises :class:`UsageError` where it is no tolerance, and for ``scaled``, which needs the terms that were added up:
    of a module of one's own, and of bare arrays, nobody knows them.
    """
    if written is None:
        return CaseTolerance()
    try:
        tolerance = parsed(written)
    except PydanticCustomError as error:
        raise UsageError(f"tolerance: {error.message()}") from None
    if any(isinstance(rule, Scaled) for rule in (tolerance.rule, *tolerance.by_output.values())):
        raise UsageError("tolerance: scaled needs to know the terms that were added up; use ulp, or rtol and atol")
    return tolerance
