"""The layers of a model of the user's, each cut out as a case of its own, to find the one that fails alone.

:func:`cut_layers` is called in a separate process, because it runs the user's code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.result import Result, Stage
from harness.spec.language.case import Case, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_VALUES = 4096
"""Inputs and weights of a layer are written with their values up to this many, which a script can hold."""


@dataclass(frozen=True, slots=True)
class CutLayer:
    """A layer with its arguments: ``case`` draws inputs in the shapes that reach it, and its weights.

    ``exact`` has the values that reached it and its own weights; None if there are too many. ``path`` is that of the
    first of its calls.
    """

    path: str
    case: Case
    exact: Case | None


@dataclass(frozen=True, slots=True)
class FailingLayer:
    """A layer that fails alone: its path in the model, its case, and the result of that."""

    path: str
    case: Case
    result: Result


def find_failing_layer(
    layers: Sequence[CutLayer], failure: Result, check: Callable[[Case], Result], budget_s: float
) -> FailingLayer | str:
    """The first layer that fails alone at the stage and with the symptom of ``failure``, or that none does.

    Layers that are wrong in the table of layers come first. All are tried with drawn values before any other is with
    its own.
    """
    until = time.monotonic() + budget_s
    wrong = {layer.path for layer in failure.layers if layer.wrong}
    suspects = [(layer.path, each) for layer in layers if layer.path in wrong for each in (layer.case, layer.exact)]
    others = [layer for layer in layers if layer.path not in wrong]
    drawn = [(layer.path, layer.case) for layer in others]
    exact = [(layer.path, layer.exact) for layer in others]
    for path, case in (*suspects, *drawn, *exact):
        if case is None:
            continue
        if time.monotonic() >= until:
            return "no layer was found that fails alone; the time is over, use a larger --budget to go on"
        alone = check(case)
        same_end = (alone.stage, alone.symptom) == (failure.stage, failure.symptom)
        if alone.status in {"failed", "error"} and same_end:
            return FailingLayer(path, case, alone)
    return f"none of {len(layers)} layer configurations fails alone"


def cut_layers(
    _scratch: Path, case: Case, home: Path, *, announce: Callable[[Stage], None]
) -> tuple[CutLayer, ...] | str:
    """The layers of the case's model, one for each configuration in order of execution, or why there are none."""
    from harness.check.stages import message_of

    os.chdir(home)
    announce("build")
    try:
        return tuple(_layers(case, home))
    except BaseException as error:  # noqa: BLE001 - the user's own code: the explanation goes on without layers
        return message_of(error)


def _layers(case: Case, home: Path) -> Sequence[CutLayer]:
    from harness.model.build import build_module, build_tensors
    from harness.model.weights import plain_name
    from harness.scaffold.scan.calls import observed_run
    from harness.scaffold.scan.case import layer_case
    from harness.scaffold.scan.spelling import NotSpelled, recorded_construction, spelled

    with recorded_construction() as construction:
        module = build_module(case.model, case)
    found: dict[str, CutLayer] = {}

    def on_layer(
        layer: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]
    ) -> Any:
        try:
            cut = layer_case(spelled(layer, construction, home), layer, args, kwargs)
            if cut.configuration not in found:
                alone = _resolved(cut.keys, case, plain_name(path), home)
                exact = _exact(alone, cut.tensors, layer, "y." if "graph" in cut.keys else "")
                found[cut.configuration] = CutLayer(plain_name(path), alone, exact)
        except NotSpelled:
            pass  # it cannot be a case
        return run()

    observed_run(module, list(build_tensors(case.inputs).values()), {}, on_layer)
    return list(found.values())


def _resolved(keys: Mapping[str, Any], case: Case, path: str, home: Path) -> Case:
    """The layer as a case that is checked as ``case`` is."""
    from harness.scaffold.comparison import cases_of

    spec = {"harness": 1, "cases": [{"name": "layer", "mode": case.mode, **keys}]}
    (resolved,) = cases_of(spec, "layer", home)
    return replace(resolved, id=f"{case.id}:{path or 'model'}", where=case.where)


def _exact(case: Case, tensors: Mapping[str, torch.Tensor], layer: nn.Module, prefix: str) -> Case | None:
    """``case`` with the values of the inputs and of the layer's weights; None if there are too many."""
    from harness.model.weights import tensors_of_state

    weights = {name: tensor for name, tensor in tensors_of_state(layer).items() if tensor.dim()}
    if sum(tensor.numel() for tensor in (*tensors.values(), *weights.values())) > MAX_VALUES:
        return None
    literal = {f"{prefix}{name}": _literal(TensorSpec(name, _name(each), ()), each) for name, each in weights.items()}
    inputs = tuple(_literal(spec, tensors[spec.label]) for spec in case.inputs)
    return replace(case, inputs=inputs, model=replace(case.model, weights=literal))


def _literal(spec: TensorSpec, tensor: torch.Tensor) -> TensorSpec:
    values = _as_tuples(tensor.detach().tolist())
    return replace(spec, shape=tuple(tensor.shape), values=values, fill=None)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
