"""Tensors and tolerances as Python source.

A small tensor is written as literal values; a large one is drawn in the script by the same rule as in harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.calibrated import PLAIN_RULES
from harness.spec.language.case import Fill, TensorSpec
from harness.spec.language.inputs.fills import array
from harness.spec.language.tolerances import (
    AllOf,
    Calibrated,
    Close,
    Cosine,
    Decisions,
    Exact,
    Rule,
    Scaled,
    Sqnr,
    Tolerance,
    Ulp,
)

MAX_LITERAL_ELEMENTS = 64
"""The largest drawn tensor that is written as literal values."""

TORCH_FILLS = frozenset({"ones", "zeros", "full", "arange"})
"""The fills that are one call of torch."""

EPSILON: Mapping[str, float] = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


# Tensors


def tensor_expression(spec: TensorSpec) -> str:
    """An expression for the tensor in its layout. The expression for a weight may use ``weight``, the current one."""
    dtype = f"torch.{spec.dtype}"
    fill = spec.fill or Fill("normal")
    shape = "weight.shape" if spec.takes_shape else str(spec.shape)
    count = "weight.numel()" if spec.takes_shape else str(prod(spec.shape))
    if spec.is_literal or (_generator(spec) is None and fill.kind not in TORCH_FILLS):
        text = _literal_tensor(array(spec), dtype)
    elif fill.kind in {"ones", "zeros"}:
        text = f"torch.{fill.kind}({shape}, dtype={dtype})"
    elif fill.kind == "full":
        text = f"torch.full({shape}, {_number(fill.parameters[0])}, dtype={dtype})"
    elif fill.kind == "arange":
        text = f"torch.arange({count}).to({dtype}).reshape({shape})"
    else:
        parameters = "".join(f"{_number(parameter)}, " for parameter in fill.parameters)
        parameters = f"({parameters.removesuffix(' ')}), " if fill.kind == "choice" else parameters
        text = f"{fill.kind}({parameters}{count}, seed={spec.seed}, dtype={dtype}).reshape({shape})"
    return _with_layout(text, spec)


def generators(specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the functions that a script needs to draw the tensors of ``specs``."""
    return sorted({name for spec in specs if (name := _generator(spec)) is not None})


def _generator(spec: TensorSpec) -> str | None:
    """The function that draws the tensor of ``spec``, which is named after its fill; None if it needs none."""
    fill = spec.fill or Fill("normal")
    if spec.is_literal or fill.kind in TORCH_FILLS:
        return None
    return None if not spec.takes_shape and prod(spec.shape) <= MAX_LITERAL_ELEMENTS else fill.kind


def _with_layout(text: str, spec: TensorSpec) -> str:
    if spec.layout == "channels_last" and len(spec.shape) in {4, 5}:
        memory_format = "channels_last" if len(spec.shape) == 4 else "channels_last_3d"
        return f"{text}.contiguous(memory_format=torch.{memory_format})"
    if spec.layout == "strided" and spec.shape:
        return f"torch.stack([{text}] * 2, dim=-1).flatten(-2)[..., ::2]"
    return text


def _literal_tensor(values: NDArray[Any], dtype: str) -> str:
    if 0 in values.shape:
        return f"torch.empty({values.shape}, dtype={dtype})"
    return f"torch.tensor({_nested_lists(values)}, dtype={dtype})"


def _nested_lists(values: NDArray[Any]) -> str:
    if values.ndim:
        return "[" + ", ".join(map(_nested_lists, values)) + "]"
    return _number(values[()])


def _number(value: Any) -> str:
    """The shortest text that is read back as the same number in its own dtype."""
    if isinstance(value, np.bool_ | bool):
        return str(bool(value))
    if isinstance(value, np.integer | int):
        return str(int(value))
    if not np.isfinite(value):
        return f'float("{float(value)}")'
    return np.format_float_positional(value, trim="0") if 1e-4 <= abs(float(value)) < 1e6 or not value else str(value)


# Tolerances


def output_bounds(
    tolerance: Tolerance, dtype: str, magnitudes: Sequence[float | None] = ()
) -> dict[int | None, tuple[float, float]]:
    """The tolerance as ``(rtol, atol)`` by output index; the key None stands for every other output.

    A bound in ULP becomes a relative bound. A bound that scales with the terms' magnitudes becomes an absolute bound
    for the largest magnitude of the output, from ``magnitudes``. If that is unknown, the bound is the default of
    torch.testing.assert_close.
    """
    scaled = {
        index: _rtol_atol(tolerance.rule, dtype, largest)
        for index, largest in enumerate(magnitudes)
        if largest is not None and isinstance(tolerance.rule, Scaled)
    }
    largest_by_output = dict(enumerate(magnitudes))
    by_output = {
        index: _rtol_atol(rule, dtype, largest_by_output.get(index)) for index, rule in tolerance.by_output.items()
    }
    return {None: _rtol_atol(tolerance.rule, dtype, None)} | scaled | by_output


def _rtol_atol(rule: Rule, dtype: str, largest: float | None) -> tuple[float, float]:
    match rule:
        case Exact():
            return 0.0, 0.0
        case Ulp(n):
            return n * EPSILON[dtype], 0.0
        case Close(rtol, atol):
            return rtol, atol
        case Calibrated() | Sqnr() | Cosine() | Decisions():
            return _plain_pair(dtype)
        case AllOf(rules):
            return min(_rtol_atol(each, dtype, largest) for each in rules)
        case Scaled(n):
            return _plain_pair(dtype) if largest is None else (0.0, n * EPSILON[dtype] * largest)


def _plain_pair(dtype: str) -> tuple[float, float]:
    plain = PLAIN_RULES[dtype]
    return plain.rtol, plain.atol
