"""The answers of a reference as a model under test would give them: with its names, dtypes and layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from harness.check.files.half_precision import MixedPrecision, mixed_precision
from harness.check.files.matching import (
    MatchedInputs,
    MatchedOutputs,
    NamedInput,
    match_inputs,
    match_outputs,
    reordered,
)
from harness.check.files.reference import ReferenceAnswers
from harness.check.files.signatures import FileSignature
from harness.check.judging.judge import Expected, for_expressions
from harness.inside.calls import NotVisible, ReferenceInside, ValueStore
from harness.model.answer import Reference, Step
from harness.spec.language.case import Case, TensorSpec
from harness.spec.language.inputs.fills import dtype_of
from harness.spec.language.tolerances import Calibrated, Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]


class ReferenceForModel:
    """The reference's answers as a model under test would give them: with its names, dtypes and layouts."""

    def __init__(
        self,
        model: str,
        signature: Callable[[], FileSignature],
        reference: ReferenceAnswers,
        case: Case,
    ) -> None:
        """``model`` is what messages call the model under test, which has the ``signature``."""
        self._model, self._signature, self._reference = model, signature, reference
        self._named_tolerance = case.tolerance
        self._given = [NamedInput(each.label, dtype_of(each.dtype), tuple(each.shape)) for each in case.inputs]

    @property
    def example_inputs(self) -> Mapping[str, Array]:
        """The first set of inputs, as the model takes them. The reference is not run for it."""
        return self._inputs.applied_to(self._reference.example_inputs)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The reference's answers with the model's inputs, and outputs under the model's names.

        They hold a run in 16 bits where the model computes in them and the reference does not. Raises
        :class:`InputsDoNotFit` for all inputs that do not fit the model, before the reference is run and refuses one.
        """
        _ = self._inputs
        return self.references_in(None if self.mixed.wide else self.mixed.precision)

    def references_in(self, precision: str | None) -> tuple[Reference, ...]:
        """:attr:`references` with a run of the reference in ``precision``."""
        return tuple(map(self._as_the_model_gives, self._reference.references_in(precision)))

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """See :class:`harness.check.case_context.CaseContext`."""
        precision = precision or (None if self.mixed.wide else self.mixed.precision)
        return self._as_the_model_gives(self._reference.sample_reference(inputs, at, precision))

    @cached_property
    def mixed(self) -> MixedPrecision:
        """Where the model and the reference compute in different floating dtypes."""
        return mixed_precision(self._signature(), self._outputs, self._reference, self._model)

    @cached_property
    def expected(self) -> Expected:
        """The spec's ``expect``, with outputs under the model's names."""
        expected, outputs = self._reference.expected, self._outputs
        inputs = {label: for_expressions(values) for label, values in self._reference.example_inputs.items()}
        return replace(
            expected,
            names={**expected.names, **inputs},
            outputs=None if expected.outputs is None else outputs.renamed(expected.outputs),
            equals=None if expected.equals is None else outputs.renamed(expected.equals),
            differs_from=None if expected.differs_from is None else outputs.renamed(expected.differs_from),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """How inputs and outputs were matched, and what the reference has to tell."""
        notes = (*getattr(self._reference, "notes", ()), *self._inputs.notes, *self._outputs.notes, *self.mixed.notes)
        return tuple(dict.fromkeys(notes))

    def tolerance(self, opset: int | None) -> Tolerance:
        """The tolerance of the outputs, in the model's order."""
        tolerance = self._reference.tolerance(opset)
        if tolerance.by_output:
            order = self._outputs.order(list(self._reference.references[0].eager))
            by_output = {at: tolerance.by_output[own] for at, own in enumerate(order) if own in tolerance.by_output}
            tolerance = Tolerance(tolerance.rule, by_output)
        if self.mixed.precision is not None and self._named_tolerance.rule is None:
            # A layer's own rules do not hold in a lower precision, those that the spec names for single outputs do.
            tolerance = Tolerance(Calibrated(), tolerance.by_output if self._named_tolerance.by_output else {})
        return self.mixed.tolerance(tolerance)

    @cached_property
    def _inputs(self) -> MatchedInputs:
        """How the case's inputs reach the model. The reference is not built for it."""
        return match_inputs(self._given, self._signature(), self._model, may_drop=True)

    @cached_property
    def _outputs(self) -> MatchedOutputs:
        reference = list(self._reference.references[0].eager)
        declared = self._signature().outputs
        names = None if declared is None else [each.name for each in declared]
        paths = getattr(getattr(self._reference, "subject", None), "output_paths", ())
        return match_outputs(names, reference, self._model, paths)

    def reference_inside(
        self, reference: Reference, store: ValueStore, precision: str | None, target: Target
    ) -> ReferenceInside:
        """The inside of the reference, with its own names. Raises :class:`NotVisible` for one of the samples."""
        pairs = zip(self.references, self._reference.references, strict=True)
        same = (own for renamed, own in pairs if renamed.at == reference.at or renamed.inputs is reference.inputs)
        own = next(same, None)
        if own is None:
            raise NotVisible(f"the layers of a file are compared at the case's own inputs only, not at {reference.at}")
        return self._reference.reference_inside(own, store, precision, target)

    def _as_the_model_gives(self, whole: Reference) -> Reference:
        return self.mixed.adapted(self._renamed(whole))

    def _renamed(self, whole: Reference) -> Reference:
        outputs = self._outputs
        order = outputs.order(list(whole.eager))
        return replace(
            whole,
            inputs=self._inputs.applied_to(whole.inputs),
            eager=outputs.renamed(whole.eager),
            float64=None if whole.float64 is None else outputs.renamed(whole.float64),
            second_call=None if whole.second_call is None else outputs.renamed(whole.second_call),
            after_others=None if whole.after_others is None else outputs.renamed(whole.after_others),
            lower=None if whole.lower is None else outputs.renamed(whole.lower),
            flips={name: whole.flips[own] for name, own in outputs.reference.items() if own and own in whole.flips},
            magnitudes=reordered(whole.magnitudes, order),
            undefined=reordered(whole.undefined, order),
            step=None if whole.step is None else self._renamed_step(whole.step),
        )

    def _renamed_step(self, step: Step) -> Step:
        outputs = {own: name for name, own in self._outputs.reference.items()}
        inputs = {each.label: each.name for each in self._inputs.bindings}
        return replace(
            step,
            loop={outputs[own]: inputs[label] for own, label in step.loop.items() if own in outputs},
            float64=None if step.float64 is None else self._outputs.renamed(step.float64),
            lower=None if step.lower is None else self._outputs.renamed(step.lower),
        )
