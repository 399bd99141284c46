"""Shows every case the wrong twins of its layers, and sees whether it would notice.

A case notices a twin if the twin's answer is outside tolerance, or against an expectation, or an error. A twin that no
case of the specs notices, and a case that notices none of its twins, are gaps through which a wrong export would pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

from torch import nn

from harness.audit.sighting import Audit, Sighting
from harness.audit.sites import Seen, Site, replaced, seen, sites
from harness.compare.verdict import compare
from harness.layers import Array, Twin, find
from harness.layers.generic import generic_twins
from harness.model.answer import Reference
from harness.model.build import answers
from harness.model.gradients import gradients
from harness.model.tensors import to_numpy, to_torch
from harness.spec.case import Case, FactoryModel
from harness.verify.artifacts import Artifacts
from harness.verify.expected import hold, hold_gradients
from harness.verify.trial import Trial

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""What torch raises where a twin cannot take the inputs: no target could pass it off as the layer."""


def audit(cases: Sequence[Case], scratch: Path) -> Audit:
    """Put every case before the twins of its layers."""
    left_out = {case.id: why for case in cases if (why := _why_left_out(case))}
    shown = (case for case in cases if case.id not in left_out)
    return Audit(tuple(one for case in shown for one in sightings(case, scratch)), left_out)


def sightings(case: Case, scratch: Path) -> Iterator[Sighting]:
    """Every twin of every layer of one case, where it sits."""
    trial = Trial(case, Artifacts(None, scratch))
    for site in sites(case, trial.subject.module):
        here = seen(case, trial.subject, site)
        for twin in _twins(site, here):
            noticed = twin.why_equal is None and _notices(trial, site, twin)
            yield Sighting(case.id, site.layer.layer, twin.name, noticed, twin.why_equal)


def _why_left_out(case: Case) -> str | None:
    if case.expect.raises is not None:
        return "it is about an error"
    if case.is_recorded:
        return "a model file cannot be rebuilt"
    return "a factory's layers are not named in the spec" if isinstance(case.model.model, FactoryModel) else None


def _twins(site: Site, here: Seen) -> Iterable[Twin]:
    known = find(site.layer.layer)
    return generic_twins(site.layer.layer, here.call, here.outputs) if known is None else known.twins(here.call)


def _notices(trial: Trial, site: Site, twin: Twin) -> bool:
    with redirect_stderr(StringIO()):  # torch.fx prints a traceback of its own beside the exception
        try:
            wrong = replaced(trial.case, trial.subject, site, twin)
            told = any(_tells(trial, reference, wrong) for reference in trial.references)
            return told or _tells_gradients(trial, wrong)
        except REFUSALS:
            return True


def _tells(trial: Trial, reference: Reference, wrong: nn.Module) -> bool:
    """Whether the case fails with the answer of ``wrong``, as a check of a target that gave it would."""
    answer = _answer(trial.case, reference, wrong)
    if not _same_form(answer, reference.eager):
        return True
    tolerance = trial.tolerance(None)
    if not reference.stochastic:
        known = reference.magnitudes, reference.undefined
        if not compare(answer, reference.eager, tolerance, magnitudes=known[0], undefined=known[1]).passed:
            return True
    if reference is not trial.references[0]:
        return False  # the expectations speak of the case's own shapes
    return any(not found.passed for found in hold(trial.expected, reference, answer, tolerance))


def _tells_gradients(trial: Trial, wrong: nn.Module) -> bool:
    """Whether a gradient that the spec gives tells the twin, as it would on a target that can be differentiated."""
    case, own = trial.case, trial.references[0]
    if not (case.expect.gradient or case.expect.gradient_range):
        return False
    found = gradients(replace(trial.subject, module=wrong), case.seed)
    if not case.expect.gradient.keys() <= found.keys():
        return True
    answer = _answer(case, own, wrong)
    return any(not finding.passed for finding in hold_gradients(trial.expected, own, answer, found))


def _answer(case: Case, reference: Reference, wrong: nn.Module) -> dict[str, Array]:
    outputs = answers(wrong, [to_torch(values) for values in reference.inputs.values()], case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def _same_form(answer: Mapping[str, Array], eager: Mapping[str, Array]) -> bool:
    def form(outputs: Mapping[str, Array]) -> list[object]:
        return [(name, values.dtype, values.shape) for name, values in outputs.items()]

    return form(answer) == form(eager)
