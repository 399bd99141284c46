"""Which cases could not tell a wrong layer from the right one.

Each layer of a case is replaced by its wrong twins in turn; a case notices a twin if its answer
would have been outside tolerance, or against an expectation, or an error. A twin that no case of
the specs notices, and a case that notices none of its twins, are gaps through which a wrong
export would pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.compare.verdict import compare
from harness.layers import Call, Twin, find
from harness.model.build import answers, load_weights, module_of
from harness.model.layers import arguments
from harness.model.tensors import to_numpy
from harness.spec.case import Case, LayerModel, WeightedModel
from harness.spec.tolerance import Scaled, Tolerance, Ulp
from harness.verify.artifacts import Artifacts
from harness.verify.expectations import hold
from harness.verify.trial import Trial

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One twin before one case. ``excuse`` says why no input could tell, where none could."""

    case: str
    layer: str
    twin: str
    noticed: bool
    excuse: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What all cases made of all their twins."""

    sightings: tuple[Sighting, ...]

    @property
    def blind_cases(self) -> tuple[str, ...]:
        """Cases that notice none of their twins, although some could be told apart."""
        fair = [one for one in self.sightings if one.excuse is None]
        noticing = {one.case for one in fair if one.noticed}
        return tuple(dict.fromkeys(one.case for one in fair if one.case not in noticing))

    @property
    def unnoticed_twins(self) -> tuple[tuple[str, str], ...]:
        """Layer and twin, where no case notices that twin of that layer."""
        fair = [one for one in self.sightings if one.excuse is None]
        noticed = {(one.layer, one.twin) for one in fair if one.noticed}
        return tuple(dict.fromkeys((one.layer, one.twin) for one in fair if (one.layer, one.twin) not in noticed))

    @property
    def passed(self) -> bool:
        """True where something was looked at, every case notices some twin and every twin is noticed by some case."""
        return bool(self.sightings) and not self.blind_cases and not self.unnoticed_twins


def audit(cases: Sequence[Case], scratch: Path) -> Audit:
    """Put every case before the twins of its layers. Cases of layers without twins, and refusals, have none."""
    return Audit(tuple(sighting for case in cases for sighting in _sightings(case, scratch)))


def _sightings(case: Case, scratch: Path) -> Iterator[Sighting]:
    model = case.model.model
    if not isinstance(model, LayerModel) or case.expect.raises is not None:
        return
    layer = find(model.layer)
    if layer is None:
        return
    trial = Trial(case, Artifacts(None, scratch))
    for twin in layer.twins(_call(trial, model)):
        noticed = twin.why_equal is None and _notices(trial, model, twin)
        yield Sighting(case.id, model.layer, twin.name, noticed, twin.why_equal)


def _call(trial: Trial, model: LayerModel) -> Call:
    case, subject = trial.case, trial.subject
    held = subject.module.state_dict()
    return Call(
        args=arguments(model),
        weights={name.removeprefix("layer."): _wide(tensor) for name, tensor in held.items()},
        inputs=[_wide(tensor) for tensor in subject.inputs.values()],
        forward=model.forward,
        mode=case.mode,
        dtype=case.dtype,
    )


def _notices(trial: Trial, model: LayerModel, twin: Twin) -> bool:
    own = trial.references[0]
    try:
        answer = _answer_of(trial, model, twin)
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        # The twin cannot take these inputs: no target could pass it off as the layer.
        return True
    tolerance = trial.tolerance(None)
    if not own.stochastic:
        magnitudes = own.magnitudes
        if any(values.shape != own.eager[name].shape for name, values in answer.items() if name in own.eager):
            tolerance, magnitudes = _unscaled(tolerance), ()
        held = compare(answer, own.eager, tolerance, magnitudes=magnitudes, undefined=own.undefined)
        if not held.passed:
            return True
    found = hold(trial.case, trial.subject, own, answer, trial.tolerance(None))
    return any(not finding.passed for finding in found)


def _answer_of(trial: Trial, model: LayerModel, twin: Twin) -> Mapping[str, Array]:
    case, subject = trial.case, trial.subject
    eager = trial.references[0].eager
    if twin.outputs is not None:
        changed = twin.outputs(tuple(eager.values()))
        return dict(
            zip(
                eager,
                (values.astype(was.dtype) for values, was in zip(changed, eager.values(), strict=True)),
                strict=True,
            )
        )
    other = LayerModel(twin.layer or model.layer, model.args if twin.args is None else twin.args, model.forward)
    weights = case.model.weights if twin.layer is None else {}
    module = module_of(WeightedModel(other, weights), case, list(subject.inputs))
    if twin.weights is not None:
        held = {name.removeprefix("layer."): tensor for name, tensor in subject.module.state_dict().items()}
        wrong = twin.weights({name: _wide(tensor) for name, tensor in held.items()})
        load_weights(module, {name: values.astype(to_numpy(held[name]).dtype) for name, values in wrong.items()})
    outputs = answers(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def _unscaled(tolerance: Tolerance) -> Tolerance:
    return Tolerance(Ulp(0)) if isinstance(tolerance.rule, Scaled) else tolerance


def _wide(tensor: torch.Tensor) -> Array:
    array = to_numpy(tensor)
    return array.astype(np.float64) if tensor.is_floating_point() else array
