"""Compute a case's reference: eager torch's outputs, the float64 reference, the gradients and the tolerance.

The float64 reference is the layer's own definition in NumPy, or eager torch in float64 for a layer without one. A
target is compared with eager torch, and eager torch is compared with the float64 reference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from harness.layers import Answer, Call, composite_tolerance, default_tolerance, find
from harness.model.answer import Reference, outputs_by_name
from harness.model.build import Subject, constructor_arguments
from harness.model.precisions import eager_in_float64, floating_as_float64, in_lower_precision, inner_half_dtype
from harness.model.running import (
    Repetition,
    eager_outputs,
    first_call,
    have_same_values,
    in_one_thread,
    repeated,
    run_module,
    runs_in_several_threads,
    seed_torch,
)
from harness.model.state import in_evaluation, why_unrepeatable
from harness.model.tensors import copy_module, copy_tensor, to_numpy
from harness.model.weights import plain_name
from harness.spec.language.case import (
    Case,
    FactoryModel,
    GraphModel,
    LayerModel,
    Operation,
    RecordedModel,
    SequentialModel,
    StoredModel,
)
from harness.spec.language.operations import OPERATIONS
from harness.spec.language.tolerances import Tolerance

Array = NDArray[Any]

TRAINING = "the module is in training mode, and answers otherwise in evaluation mode, which is what ships"


def compute_reference(
    case: Case, subject: Subject, inputs: Mapping[str, torch.Tensor], at: str | None = None, *, repeat: bool = True
) -> Reference:
    """Run eager torch and the float64 reference on ``inputs``; ``at`` names this set of inputs in messages.

    ``repeat`` is False if other calls show that the module answers the same each time.
    """
    reference = _reference(case, subject, inputs, at, repeat=repeat)
    if (reference.stochastic or reference.second_call is not None) and runs_in_several_threads(subject.module):
        with in_one_thread():  # several may add up in another order at each call, which looks the same
            reference = _reference(case, replace(subject, first_call=None), inputs, at, repeat=repeat)
    return reference


def _reference(
    case: Case, subject: Subject, inputs: Mapping[str, torch.Tensor], at: str | None, *, repeat: bool
) -> Reference:
    module, tensors = subject.module, list(inputs.values())
    is_whole = isinstance(case.model.model, FactoryModel | StoredModel)
    first = subject.first_call if inputs is subject.inputs else None
    if first is None:
        first = first_call(module, tensors, case.seed, watch_random=case.runs_user_code)
    eager = first.outputs
    if repeat:
        repetition = repeated(module, tensors, case.seed, first, may_keep_state=is_whole)
    else:
        first.called, repetition = None, Repetition(stochastic=False)
    stochastic, second_call = repetition.stochastic, repetition.second_call
    float64 = None if stochastic else float64_reference(case, module, tensors)
    if float64 is not None and len(float64.outputs) != len(eager):
        float64 = None  # a branch on the dtype: the float64 run computes something else
    return Reference(
        inputs={label: to_numpy(tensor) for label, tensor in inputs.items()},
        eager=outputs_by_name(map(to_numpy, eager)),
        float64=None if float64 is None else outputs_by_name(float64.outputs),
        magnitudes=() if float64 is None else float64.magnitudes,
        undefined=() if float64 is None else float64.undefined,
        stochastic=stochastic,
        unrepeatable=why_unrepeatable(case, module, tensors) if stochastic else None,
        at=at,
        second_call=None if second_call is None else outputs_by_name(map(to_numpy, second_call)),
        paths=subject.output_paths,
        undecidable=None if stochastic else _why_training(case, module, tensors, eager),
        computes_in=None
        if stochastic or not is_whole
        else inner_half_dtype(module, tensors, eager, float64, case.seed),
    )


def sample_reference(
    case: Case, subject: Subject, inputs: Mapping[str, torch.Tensor], at: str, precision: str | None
) -> Reference:
    """The reference at one of many samples: eager torch, the float64 reference, and a run in ``precision``.

    That the module is neither stochastic nor keeps state is known from the case's own inputs.
    """
    eager = eager_outputs(subject.module, list(inputs.values()), case.seed)
    float64 = float64_reference(case, subject.module, list(inputs.values()))
    if float64 is not None and len(float64.outputs) != len(eager):
        float64 = None
    reference = Reference(
        inputs={label: to_numpy(tensor) for label, tensor in inputs.items()},
        eager=outputs_by_name(map(to_numpy, eager)),
        float64=None if float64 is None else outputs_by_name(float64.outputs),
        magnitudes=() if float64 is None else float64.magnitudes,
        undefined=() if float64 is None else float64.undefined,
        computes_in=inner_half_dtype(subject.module, list(inputs.values()), eager, float64, case.seed),
        stochastic=False,
        at=at,
        paths=subject.output_paths,
    )
    return reference if precision is None else in_lower_precision(case, subject, reference, precision)


def _why_training(
    case: Case, module: nn.Module, inputs: Sequence[torch.Tensor], trained: Sequence[torch.Tensor]
) -> str | None:
    """Why nobody is blamed for a difference from a module that is in training mode on purpose; None if it is not."""
    if case.mode != "train":
        return None
    try:
        evaluated = run_module(in_evaluation(module), [copy_tensor(tensor) for tensor in inputs], case.seed)
    except Exception:  # noqa: BLE001 - a module that runs in training mode only
        return TRAINING
    return None if have_same_values(evaluated, trained) else TRAINING


def float64_reference(case: Case, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Answer | None:
    """The layer's own float64 reference in NumPy if it has one, else eager torch in float64.

    None if there is neither: the layer's call is stochastic, or torch has no float64 kernel for the case.
    """
    model = case.model.model
    layer = find(model.layer) if isinstance(model, LayerModel) else None
    if layer is not None and isinstance(model, LayerModel):
        return layer.float64_reference(
            Call(
                args=constructor_arguments(model),
                weights={plain_name(name): floating_as_float64(tensor) for name, tensor in module.state_dict().items()},
                inputs=[floating_as_float64(tensor) for tensor in inputs],
                forward=model.forward,
                mode=case.mode,
                dtype=case.dtype,
            )
        )
    return eager_in_float64(case, module, inputs)


def float64_outputs(case: Case, subject: Subject, inputs: Mapping[str, torch.Tensor]) -> dict[str, Array] | None:
    """The float64 reference's outputs by name; None if there is none, or if it has others than the subject."""
    answer = float64_reference(case, subject.module, list(inputs.values()))
    return None if answer is None or len(answer.outputs) != subject.outputs else outputs_by_name(answer.outputs)


def tolerance_of(case: Case, opset: int | None) -> Tolerance:
    """How far a target's outputs may be from eager's: the spec's tolerance, else the layers' default."""
    # Over several steps the errors of a layer add up as those of a network do.
    default = default_tolerance(None, {}, case.dtype, opset) if case.loop else default_tolerance_of(case, opset)
    if case.tolerance.rule is not None:
        return Tolerance(case.tolerance.rule, case.tolerance.by_output)
    return Tolerance(default.rule, {**default.by_output, **case.tolerance.by_output})


def default_tolerance_of(case: Case, opset: int | None) -> Tolerance:
    """How far apart correct implementations of the case's layers may be, without the spec's tolerance."""
    model = case.model.model
    match model:
        case LayerModel(layer, _):
            return default_tolerance(layer, constructor_arguments(model), case.dtype, opset)
        case SequentialModel(steps):
            parts = [(step.layer, constructor_arguments(step)) for step in steps]
            return composite_tolerance(parts, case.dtype, opset)
        case GraphModel(nodes):
            parts = [
                (layer.layer, dict(layer.args) if isinstance(layer, Operation) else constructor_arguments(layer))
                for layer in (node.layer for node in nodes)
                if not (isinstance(layer, Operation) and OPERATIONS[layer.layer].moves_values)
            ]
            return composite_tolerance(parts, case.dtype, opset)
        case FactoryModel() | StoredModel() | RecordedModel():
            return default_tolerance(None, {}, case.dtype, opset)


def gradients(subject: Subject, seed: int) -> dict[str, NDArray[Any]]:
    """Autograd's gradients of the sum of the first output on eager torch, by input label and parameter name.

    Every floating input and every parameter has one; it is zero where the output does not depend on it.
    """
    module, inputs = copy_module(subject.module), copy.deepcopy(dict(subject.inputs))
    leaves = {label: tensor.requires_grad_() for label, tensor in inputs.items() if tensor.is_floating_point()}
    leaves |= {plain_name(name): parameter for name, parameter in module.named_parameters()}
    with torch.random.fork_rng(devices=()):
        seed_torch(seed)
        # An in-place layer may not write to a leaf, so it gets a copy that autograd follows.
        returned = module(*(tensor.clone() for tensor in inputs.values()))
    total = pytree.tree_leaves(returned)[0].sum()
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {name: to_numpy(grad) for name, grad in zip(leaves, grads, strict=True)}
