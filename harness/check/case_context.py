"""What the checks of a case rest on, wherever it comes from: a spec that is built here, or a bundle that is read.

What comparing finds: an answer held against eager torch's, against the spec, and against the definition.

The targets of one case mostly answer alike to the last bit, and what such an answer comes to is found once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from harness.check.expectations import Expected, hold, hold_gradients
from harness.check.memo import Memo
from harness.check.steps import Sides
from harness.compare.numbers import same_bits
from harness.compare.verdict import Comparison, compare, distances
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.result import Distance, Finding, Result
from harness.runtimes import Differentiable, Session
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.check.stages import Clock
    from harness.exporters import Artifact


Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What eager torch said to a case that it is to refuse: ``told`` is the result so far.

    ``inputs`` and ``artifact`` are None where all is said with that: the module could not even be built, or eager
    answered. ``control`` makes a file of what no target should refuse; None where that cannot be had.
    """

    told: Result
    inputs: Mapping[str, Array] | None = None
    artifact: Callable[[Target], Artifact] | None = None
    control: Callable[[Target], Artifact] | None = None


class CaseContext(Protocol):
    """A case with its exports and all that is known of its answer. What raises once does so for every check."""

    @property
    def case(self) -> Case:
        """The case itself."""
        ...

    @property
    def references(self) -> Sequence[Reference]:
        """The answers to be held against: at the case's own shapes, then at those of ``also``."""
        ...

    @property
    def expected(self) -> Expected:
        """What the spec says must hold."""
        ...

    @property
    def about_eager(self) -> Sequence[Finding]:
        """Eager torch held against the spec's expectations and the layer's definition."""
        ...

    @property
    def judge(self) -> Judge:
        """Who holds all answers to the case."""
        ...

    def artifact(self, target: Target) -> Artifact:
        """The case exported for ``target``."""
        ...

    def tolerance(self, opset: int | None) -> Tolerance:
        """What the outputs of an export of ``opset`` are held to."""
        ...

    def eager(self) -> Call | None:
        """A call of eager torch for timing; None where there is no torch to ask."""
        ...

    def refusal(self, blank: Result, clock: Clock) -> Refusal:
        """What eager torch says to a case that it is to refuse."""
        ...


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

    def __init__(self, once: Memo) -> None:
        self._once = once
        self._heard: list[tuple[Tolerance, Answers]] = []

    def verdict(self, prepared: CaseContext, given: Answers, session: Session, opset: int | None) -> Verdict:
        """On the answers ``given``, one for each of the prepared's references, by an export of ``opset``.

        Gradients are the session's own, so that what asks for them is judged anew each time.
        """
        tolerance, expect = prepared.tolerance(opset), prepared.expected
        if (expect.gradient or expect.gradient_range) and isinstance(session, Differentiable):
            return _judged(prepared, given, tolerance, session)
        return self._once.get(f"verdict {self._number(tolerance, given)}", lambda: _judged(prepared, given, tolerance))

    def _number(self, tolerance: Tolerance, given: Answers) -> int:
        """Of the different answers so far, which one ``given`` is."""
        for number, (held_to, answers) in enumerate(self._heard):
            if held_to == tolerance and _alike(answers, given):
                return number
        self._heard.append((tolerance, given))
        return len(self._heard) - 1


def _judged(
    prepared: CaseContext, given: Answers, tolerance: Tolerance, differentiable: Differentiable | None = None
) -> Verdict:
    references = prepared.references
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
    findings = list(hold(prepared.expected, own, answer, tolerance)) if fits else []
    if own.stochastic:
        findings.append(Finding("structure", fits, f"{_told(answer)}, expected {_told(own.eager)}"))
    if fits and differentiable is not None:
        findings += hold_gradients(prepared.expected, own, answer, differentiable.gradients(own.inputs))
    known = () if own.float64 is None else distances(own.eager, answer, own.float64, undefined=own.undefined)
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
