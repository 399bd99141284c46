"""Calls that can be made again and again on the same inputs, as timing needs them.

Gradients of the sum of the first output, by input label and by parameter name.

What a case's answer should be: eager torch, and the definition in float64 that eager itself is held against.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from harness.layers import SUMS_OF_PRODUCTS, Answer, Call, composite_tolerance, default_tolerance, find
from harness.model.answer import Reference
from harness.model.build import Subject, answered, answers, arguments, copied, seed_torch
from harness.model.tensors import to_numpy
from harness.spec.language.case import (
    Case,
    FactoryModel,
    FileModel,
    GraphModel,
    LayerModel,
    PackedModel,
    SequentialModel,
)
from harness.spec.language.tolerances import Tolerance


def repeatable(module: Callable[..., object], inputs: Sequence[torch.Tensor]) -> tuple[Callable[[], object], bool]:
    """A call of ``module`` on ``inputs`` without autograd, and whether it must copy the inputs each time.

    The call works on a copy of the module, so that running statistics of the original stay as they are. No tensor of
    the copy requires a gradient, so that autograd records nothing; entering ``torch.no_grad`` at each call would be
    timed as well, and takes as long as a small layer.

    A layer that works in place changes what it is given: the second call would see other numbers than the first, and
    denormals after a few. Such a call copies its inputs first, and the copy is part of what is timed. To find out, the
    module is called once, on copies.
    """
    given = tuple(tensor.detach() for tensor in inputs)
    called = _without_gradients(module) if isinstance(module, nn.Module) else module
    prepared = tuple(tensor.clone() for tensor in given)
    called(*prepared)
    if all(_same(before, after) for before, after in zip(given, prepared, strict=True)):
        return lambda: called(*given), False
    return lambda: called(*(tensor.clone() for tensor in given)), True


def _without_gradients(module: nn.Module) -> nn.Module:
    """A copy that requires no gradients; the module itself where it holds no tensors (frozen ones may refuse)."""
    if not module.state_dict():
        return module
    with torch.no_grad():  # the copy of a script module's parameter would else be the result of a computation
        copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself and the sign of zero counts."""
    if before.is_complex():
        before, after = torch.view_as_real(before), torch.view_as_real(after)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[before.element_size()]
    return torch.equal(before.contiguous().view(width), after.contiguous().view(width))


def gradients(subject: Subject, seed: int) -> dict[str, NDArray[Any]]:
    """What autograd says on eager torch, for every floating input and parameter; zeros where nothing depends on one."""
    module, inputs = copy.deepcopy(subject.module), copy.deepcopy(dict(subject.inputs))
    wanted = {label: tensor.requires_grad_() for label, tensor in inputs.items() if tensor.is_floating_point()}
    wanted |= {name.removeprefix("layer."): parameter for name, parameter in module.named_parameters()}
    with torch.random.fork_rng(devices=()):
        seed_torch(seed)
        # An in-place layer may not write on a leaf, so it is given a copy that autograd follows.
        answer = module(*(tensor.clone() for tensor in inputs.values()))
    total = pytree.tree_leaves(answer)[0].sum()
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return {name: to_numpy(gradient) for name, gradient in zip(wanted, found, strict=True)}


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
        float64=None if truth is None else dict(zip(subject.output_names, truth.outputs, strict=True)),
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
        return known.float64_reference(
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
