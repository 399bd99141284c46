"""What comparing finds: an answer held against eager torch's, against the spec, and against the definition.

The targets of one case mostly answer alike to the last bit, and what such an answer comes to is found once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from harness.compare.bits import same_bits
from harness.compare.distance import distances
from harness.compare.verdict import Comparison, compare
from harness.result import Distance, Finding
from harness.runtimes import Differentiable, Session
from harness.spec.tolerance import Tolerance
from harness.verify.basis import Basis
from harness.verify.expected import hold, hold_gradients
from harness.verify.once import Once
from harness.verify.shown import Sides

Array = NDArray[Any]
Answers = Sequence[Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing found: against eager torch at each set of shapes, and against the spec."""

    compared: tuple[Sides, ...]
    findings: tuple[Finding, ...]
    distances: tuple[Distance, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons alone, in the same order."""
        return tuple(sides.comparison for sides in self.compared)


class Judge:
    """Holds what the targets of one case answer against what they should; ``once`` keeps what that came to."""

    def __init__(self, once: Once) -> None:
        self._once = once
        self._heard: list[tuple[Tolerance, Answers]] = []

    def verdict(self, trial: Basis, given: Answers, session: Session, opset: int | None) -> Verdict:
        """On the answers ``given``, one for each of the trial's references, by an export of ``opset``.

        Gradients are the session's own, so that what asks for them is judged anew each time.
        """
        tolerance, expect = trial.tolerance(opset), trial.expected
        if (expect.gradient or expect.gradient_range) and isinstance(session, Differentiable):
            return _judged(trial, given, tolerance, session)
        return self._once.get(f"verdict {self._number(tolerance, given)}", lambda: _judged(trial, given, tolerance))

    def _number(self, tolerance: Tolerance, given: Answers) -> int:
        """Of the different answers so far, which one ``given`` is."""
        for number, (held_to, answers) in enumerate(self._heard):
            if held_to == tolerance and _alike(answers, given):
                return number
        self._heard.append((tolerance, given))
        return len(self._heard) - 1


def _judged(
    trial: Basis, given: Answers, tolerance: Tolerance, differentiable: Differentiable | None = None
) -> Verdict:
    references = trial.references
    compared = tuple(
        Sides(
            compare(
                answer,
                reference.eager,
                tolerance,
                magnitudes=reference.magnitudes,
                undefined=reference.undefined,
                at=reference.at,
            ),
            answer,
            reference.eager,
            reference.undefined,
        )
        for reference, answer in zip(references, given, strict=True)
        if not reference.stochastic
    )
    own, answer = references[0], given[0]
    fits = same_form(own.eager, answer)
    findings = list(hold(trial.expected, own, answer, tolerance)) if fits else []
    if own.stochastic:
        findings.append(Finding("structure", fits, f"{_told(answer)}, expected {_told(own.eager)}"))
    if fits and differentiable is not None:
        findings += hold_gradients(trial.expected, own, answer, differentiable.gradients(own.inputs))
    known = () if own.oracle is None else distances(own.eager, answer, own.oracle, undefined=own.undefined)
    return Verdict(compared, tuple(findings), known)


def _alike(some: Answers, others: Answers) -> bool:
    """True where every output of every answer is the same by name, form and bits."""
    return all(
        list(one) == list(other) and all(same_bits(one[name], other[name]) for name in one)
        for one, other in zip(some, others, strict=True)
    )


def same_form(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """True where names, dtypes and shapes agree.

    An answer of another form has failed already, and a spec's expressions could not be evaluated on it.
    """
    return _form(one) == _form(other)


def _form(outputs: Mapping[str, Array]) -> list[tuple[str, Any, tuple[int, ...]]]:
    return [(name, values.dtype, values.shape) for name, values in outputs.items()]


def _told(outputs: Mapping[str, Array]) -> list[str]:
    return [f"{name} {values.dtype}{list(values.shape)}" for name, values in outputs.items()]
