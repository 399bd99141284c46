"""What a check needs of its case, as a protocol: a spec that is built in the worker, or a bundle that is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from harness.check.judging.judge import Expected, Judge
from harness.check.judging.lower_precision import ComparedWeights
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.result import Finding, Result
from harness.spec.language.case import Case, TensorSpec
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.check.judging.example_values import OtherInputs, OtherKind
    from harness.check.stages import Clock
    from harness.exporters import Artifact
    from harness.inside.calls import ReferenceInside, ValueStore

Array = NDArray[Any]


class CaseContext(Protocol):
    """A case with its artifacts and reference answers. Each is computed once; an exception is raised every time."""

    @property
    def case(self) -> Case:
        """The case."""
        ...

    @property
    def references(self) -> Sequence[Reference]:
        """The reference answers: at the case's own shapes, then at those of ``also``."""
        ...

    @property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays."""
        ...

    @property
    def eager_findings(self) -> Sequence[Finding]:
        """Eager torch compared with the spec's ``expect`` and with the float64 reference."""
        ...

    @property
    def judge(self) -> Judge:
        """The judge of all answers to the case."""
        ...

    def artifact(self, target: Target) -> Artifact:
        """The case exported for ``target``."""
        ...

    @property
    def training(self) -> str | None:
        """What to say first, if a forgotten ``.eval()`` changes the answers; None without the module."""
        ...

    def exported_in_training(self, target: Target) -> tuple[str, Sequence[str]]:
        """What to call the exported file, and its operators that compute as in training although nobody asked for it.

        Called for a file that was exported.
        """
        ...

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """The reference at one of the case's samples, which ``at`` names; with a run in ``precision``, if it is one."""
        ...

    @property
    def unfit_reference(self) -> str | None:
        """Why a difference from the reference says nothing about the target, and what to do; None if it does."""
        ...

    def exported_from(self, target: Target, inputs: Mapping[str, Array], folder: Path) -> Artifact | None:
        """The export for ``target`` in ``folder`` with ``inputs`` as its example; None without the module."""
        ...

    def further_inputs(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Inputs that a model may treat in another way, as far as eager torch takes them. None without the module."""
        ...

    def eager_answer(
        self, inputs: Mapping[str, Array], before: Sequence[Mapping[str, Array]] = ()
    ) -> Mapping[str, Array] | None:
        """Eager torch's answer to ``inputs`` after calls with ``before``; None if it refuses one, or has no module."""
        ...

    def references_for(self, target: Target) -> Sequence[Reference]:
        """The reference answers, with those of a run in the precision of ``target`` if that is lower."""
        ...

    def tolerance(self, opset: int | None, target: Target | None = None) -> Tolerance:
        """The tolerance of the outputs of an export at ``opset``; ``target`` may compute in a lower precision."""
        ...

    def quantized_weights(self, target: Target) -> ComparedWeights:
        """The quantized weights of the file of ``target`` beside the float weights; none if it is not quantized."""
        ...

    def with_weights(self, result: Result, target: Target) -> Result:
        """``result`` with what float weights that differ from the reference's explain; as it is for an export."""
        ...

    def reference_inside(
        self, reference: Reference, store: ValueStore, precision: str | None, target: Target
    ) -> ReferenceInside:
        """The inside of what gave ``reference``, on its inputs; run in ``precision`` if that is given.

        In a bundle, it was packed for the export of ``target``.

        Raises :class:`harness.inside.calls.NotVisible` if it cannot be seen.
        """
        ...

    def eager_call(self) -> Call | None:
        """A call of eager torch for timing; None without torch."""
        ...

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """How eager torch answers a case that it should refuse. ``result`` is the result so far."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Eager torch's answer to a case that it should refuse, and what is needed to check that a target refuses too.

    ``result`` is the result so far. ``inputs`` and ``export`` are None if that result is final: eager torch answered,
    or the module could not even be built. ``export_control`` exports a model that no target should refuse; None if no
    such file can be made.
    """

    result: Result
    inputs: Mapping[str, Array] | None = None
    export: Callable[[Target], Artifact] | None = None
    export_control: Callable[[Target], Artifact] | None = None
