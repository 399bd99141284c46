"""The tolerance of a check as the script states it: a relative and an absolute bound for each output.

Tensors as Python source: literal where they are small, drawn by the same rule where they are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.language.case import Fill, TensorSpec
from harness.spec.language.fills import array
from harness.spec.language.tolerances import Calibrated, Close, Exact, Rule, Scaled, Tolerance, Ulp

EPSILON: Mapping[str, float] = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

# The defaults of torch.testing.assert_close.
USUAL: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def bounds(
    tolerance: Tolerance, dtype: str, magnitudes: Sequence[float | None] = ()
) -> dict[int | None, tuple[float, float]]:
    """``(rtol, atol)`` by output index; None stands for every other output.

    Units in the last place become a relative bound. What is scaled by the terms' magnitudes becomes an absolute one, by
    the largest of ``magnitudes`` of an output; where that is not known, the default of torch.testing.assert_close.
    """
    scaled = {
        index: _pair(tolerance.rule, dtype, largest)
        for index, largest in enumerate(magnitudes)
        if largest is not None and isinstance(tolerance.rule, Scaled)
    }
    by_largest = dict(enumerate(magnitudes))
    named = {index: _pair(rule, dtype, by_largest.get(index)) for index, rule in tolerance.by_output.items()}
    return {None: _pair(tolerance.rule, dtype, None)} | scaled | named


def _pair(rule: Rule, dtype: str, largest: float | None) -> tuple[float, float]:
    match rule:
        case Exact():
            return 0.0, 0.0
        case Ulp(n):
            return n * EPSILON[dtype], 0.0
        case Close(rtol, atol):
            return rtol, atol
        case Calibrated():
            return USUAL[dtype]
        case Scaled(n):
            return USUAL[dtype] if largest is None else (0.0, n * EPSILON[dtype] * largest)


SMALL = 64
"""A drawn tensor of at most so many elements is written out."""


def drawn(spec: TensorSpec) -> str | None:
    """The kind of fill that the script needs a function for, to make ``spec``; None where it needs none."""
    fill = spec.fill or Fill("normal")
    if spec.values is not None or fill.kind in {"ones", "zeros", "full", "arange"}:
        return None
    return None if not spec.takes_shape and prod(spec.shape) <= SMALL else fill.kind


def tensor(spec: TensorSpec) -> str:
    """An expression for the tensor, in its layout; a weight's may speak of its parameter as ``held``."""
    dtype = f"torch.{spec.dtype}"
    fill = spec.fill or Fill("normal")
    shape = "held.shape" if spec.takes_shape else str(spec.shape)
    count = "held.numel()" if spec.takes_shape else str(prod(spec.shape))
    if spec.values is not None or (drawn(spec) is None and fill.kind not in {"ones", "zeros", "full", "arange"}):
        text = _written(array(spec), dtype)
    elif fill.kind in {"ones", "zeros"}:
        text = f"torch.{fill.kind}({shape}, dtype={dtype})"
    elif fill.kind == "full":
        text = f"torch.full({shape}, {_number(fill.parameters[0])}, dtype={dtype})"
    elif fill.kind == "arange":
        text = f"torch.arange({count}).to({dtype}).reshape({shape})"
    else:
        given = "".join(f"{_number(each)}, " for each in fill.parameters)
        given = f"({given.removesuffix(' ')}), " if fill.kind == "choice" else given
        text = f"{fill.kind}({given}{count}, seed={spec.seed}, dtype={dtype}).reshape({shape})"
    return with_layout(text, spec)


def with_layout(text: str, spec: TensorSpec) -> str:
    """``text`` in the layout of ``spec``."""
    if spec.layout == "channels_last" and len(spec.shape) in {4, 5}:
        form = "channels_last" if len(spec.shape) == 4 else "channels_last_3d"
        return f"{text}.contiguous(memory_format=torch.{form})"
    if spec.layout == "strided" and spec.shape:
        return f"torch.stack([{text}] * 2, dim=-1).flatten(-2)[..., ::2]"
    return text


def _written(values: NDArray[Any], dtype: str) -> str:
    if 0 in values.shape:
        return f"torch.empty({values.shape}, dtype={dtype})"
    return f"torch.tensor({_nested(values)}, dtype={dtype})"


def _nested(values: NDArray[Any]) -> str:
    if values.ndim:
        return "[" + ", ".join(_nested(each) for each in values) + "]"
    return _number(values[()])


def _number(value: Any) -> str:
    """The shortest text that is read back as the same number of its own dtype."""
    if isinstance(value, np.bool_ | bool):
        return str(bool(value))
    if isinstance(value, np.integer | int):
        return str(int(value))
    if not np.isfinite(value):
        return f'float("{float(value)}")'
    return np.format_float_positional(value, trim="0") if 1e-4 <= abs(float(value)) < 1e6 or not value else str(value)


def kinds(specs: Sequence[TensorSpec]) -> list[str]:
    """The kinds of fill that a script with ``specs`` needs a function for."""
    return sorted({kind for spec in specs if (kind := drawn(spec)) is not None})
