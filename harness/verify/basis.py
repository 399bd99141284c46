"""What the checks of a case rest on, wherever it comes from: a spec that is built here, or a bundle that is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.result import Finding, Result
from harness.spec.case import Case
from harness.spec.target import Target
from harness.spec.tolerance import Tolerance
from harness.verify.expected import Expected

if TYPE_CHECKING:
    from harness.exporters import Artifact
    from harness.verify.judging import Judge
    from harness.verify.stages import Clock

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


class Basis(Protocol):
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
