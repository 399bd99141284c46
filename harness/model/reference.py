"""What a case's answer should be: eager torch, and the definition in float64 that eager itself is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.layers import SUMS_OF_PRODUCTS, Answer, Call, composite_tolerance, default_tolerance, find
from harness.model.answer import Reference
from harness.model.build import answered, answers
from harness.model.copies import copied
from harness.model.layers import arguments
from harness.model.subject import Subject
from harness.model.tensors import to_numpy
from harness.spec.case import Case, FactoryModel, FileModel, GraphModel, LayerModel, PackedModel, SequentialModel
from harness.spec.tolerance import Tolerance

Array = NDArray[Any]


def refer(case: Case, subject: Subject, inputs: Mapping[str, torch.Tensor], at: str | None = None) -> Reference:
    """Ask eager torch, and the definition, about ``inputs``."""
    module, given = subject.module, list(inputs.values())
    known = subject.answer if inputs is subject.inputs else None
    eager = answers(module, given, case.seed) if known is None else known
    stochastic = _differs(eager, answers(module, given, case.seed + 1))
    truth = None if stochastic else define(case, module, given)
    return Reference(
        inputs={label: to_numpy(tensor) for label, tensor in inputs.items()},
        eager=dict(zip(subject.output_names, map(to_numpy, eager), strict=True)),
        oracle=None if truth is None else dict(zip(subject.output_names, truth.outputs, strict=True)),
        magnitudes=() if truth is None else truth.magnitudes,
        undefined=() if truth is None else truth.undefined,
        stochastic=stochastic,
        at=at,
    )


def define(case: Case, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Answer | None:
    """The answer by definition: the layer's own oracle in NumPy, else eager torch in float64.

    None where neither can answer: float64 has no kernel for the case.
    """
    model = case.model.model
    known = find(model.layer) if isinstance(model, LayerModel) else None
    if known is not None and isinstance(model, LayerModel):
        return known.oracle(
            Call(
                args=arguments(model),
                weights={_bare(name): _wide(tensor) for name, tensor in module.state_dict().items()},
                inputs=[_wide(tensor) for tensor in inputs],
                forward=model.forward,
                mode=case.mode,
                dtype=case.dtype,
            )
        )
    return _in_float64(case, module, inputs)


def tolerance_of(case: Case, opset: int | None) -> Tolerance:
    """How far a target's answer may be from eager's: what the spec says, else the layers' own default."""
    default = own_tolerance(case, opset)
    if case.tolerance.rule is not None:
        return Tolerance(case.tolerance.rule, case.tolerance.by_output)
    return Tolerance(default.rule, {**default.by_output, **case.tolerance.by_output})


def own_tolerance(case: Case, opset: int | None) -> Tolerance:
    """How far correct implementations of the case's layers may be apart, whatever the spec says."""
    model = case.model.model
    match model:
        case LayerModel(layer, _):
            return default_tolerance(layer, arguments(model), case.dtype, opset)
        case SequentialModel(steps):
            return composite_tolerance([(step.layer, arguments(step)) for step in steps], case.dtype, opset)
        case GraphModel(nodes):
            parts = [(node.layer.layer, arguments(node.layer)) for node in nodes]
            return composite_tolerance(parts, case.dtype, opset)
        case FactoryModel() | FileModel() | PackedModel():
            return default_tolerance(None, {}, case.dtype, opset)


def _in_float64(case: Case, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Answer | None:
    double = copied(module).double()
    wide = [tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True) for tensor in inputs]
    try:
        outputs = answered(double, wide, case.seed)
    except (RuntimeError, NotImplementedError):
        # No float64 kernel: eager alone is the reference, and the row has no distances.
        return None
    return Answer(tuple(map(to_numpy, outputs)), magnitudes=_magnitudes(case, double, wide))


def _magnitudes(case: Case, double: nn.Module, wide: Sequence[torch.Tensor]) -> tuple[Array | None, ...]:
    """The sums of the terms' magnitudes of a convolution and its like: the same layer on magnitudes.

    ``double`` is changed; nobody asks it again.
    """
    model = case.model.model
    if not (isinstance(model, LayerModel) and model.layer in SUMS_OF_PRODUCTS):
        return ()
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.abs_()
    return tuple(to_numpy(output) for output in answered(double, [tensor.abs() for tensor in wide], case.seed))


def _differs(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return any(not torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in zip(one, other, strict=True))


def _wide(tensor: torch.Tensor) -> Array:
    array = to_numpy(tensor)
    return array.astype(np.float64) if tensor.is_floating_point() else array


def _bare(name: str) -> str:
    return name.removeprefix("layer.")
