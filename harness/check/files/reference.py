"""The answers of a reference that is an ONNX file: run without graph optimization, and evaluated in float64.

Without optimization each node is computed as the file says, so that an optimizer that changes the result is not part of
what is expected. A file that runs only optimized is run so, and a note tells it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.blame.evaluator import evaluate, not_believed_reason
from harness.blame.file_runs import error_summary
from harness.check.files.half_precision import half_precision_inside
from harness.check.files.matching import MatchedInputs, NamedInput, match_inputs
from harness.check.files.signatures import FileSignature, read_file_signature
from harness.check.judging.example_values import OtherInputs
from harness.check.judging.judge import Expected
from harness.check.judging.steps import with_lower_steps, with_steps
from harness.check.recorded.own_rounding import with_functions
from harness.check.recorded.protobufs import file_artifact
from harness.compare.calibrated import evaluation_problem
from harness.compare.numbers import same_bits
from harness.compare.rules import strict_ulp
from harness.exporters import Artifact
from harness.inside.calls import NotVisible, ReferenceInside, ValueStore
from harness.latency.sampling import Call
from harness.model.answer import Reference, with_flips
from harness.registry import plugins
from harness.result import Finding
from harness.runtimes import Runtime, Session
from harness.spec.language.case import Case, StoredModel, TensorSpec
from harness.spec.language.inputs.draws import input_sets
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.tensors import arrays_of
from harness.spec.language.tolerances import Calibrated, Tolerance
from harness.spec.targets import FILE, Target
from harness.spec.targets.sets import DEFAULT_RUNTIMES
from harness.transforms import TransformRequest

Array = NDArray[Any]
Inputs = Mapping[str, Array]

UNOPTIMIZED: Mapping[str, str] = {"optimization": "disabled"}


class ReferenceAnswers(Protocol):
    """What a file under test is compared with, under the reference's own names: a prepared case, or a file."""

    @property
    def example_inputs(self) -> Mapping[str, Array]:
        """The first set of inputs by label. The reference is not run for it."""

    @property
    def references(self) -> Sequence[Reference]:
        """The reference answers to each set of inputs."""

    def references_in(self, precision: str | None) -> Sequence[Reference]:
        """The reference answers, with those of a run in ``precision`` if one is named."""

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """The reference at one of the case's samples; with a run in ``precision``, if it is one."""

    @property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays."""

    @property
    def eager_findings(self) -> Sequence[Finding]:
        """The reference compared with the spec's ``expect`` and with its float64 run."""

    def tolerance(self, opset: int | None) -> Tolerance:
        """The tolerance of the reference's outputs."""

    def reference_inside(
        self, reference: Reference, store: ValueStore, precision: str | None, target: Target
    ) -> ReferenceInside:
        """The inside of what gave ``reference``, on its inputs."""

    def eager_answer(self, inputs: Inputs) -> Inputs | None:
        """The reference's outputs at ``inputs``; None if it refuses them."""

    def eager_call(self) -> Call | None:
        """A call of the reference for timing."""


class FileReference:
    """The reference answers of an ONNX file, or of one in ONNX Runtime's format, to the inputs of a case."""

    def __init__(
        self,
        case: Case,
        strict_ulp: int | None = None,
        on_size: Callable[[int], None] = lambda _size: None,
        inputs: Sequence[tuple[Inputs, str | None, bool]] | None = None,
    ) -> None:
        """``inputs`` replace those that the case describes: each with its name, and True if shapes are repeated."""
        assert isinstance(case.model.model, StoredModel)
        self.case, self.file = case, case.model.model
        self._strict_ulp, self._on_size, self._given = strict_ulp, on_size, inputs
        self._further_notes: list[str] = []
        self._sample_sessions: dict[str | None, Session] = {}

    @cached_property
    def artifact(self) -> Artifact:
        """The file itself."""
        return file_artifact(self.file, self._on_size)

    @cached_property
    def signature(self) -> FileSignature:
        """What the file declares."""
        return read_file_signature(self.file)

    @property
    def example_inputs(self) -> Inputs:
        """The first set of inputs by label."""
        return self._inputs[0][0]

    @property
    def notes(self) -> tuple[str, ...]:
        """How the case's inputs were matched with the file's, and why there is no float64 reference."""
        return (*self.matched_inputs.notes, *self._further_notes)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The answers to each set of inputs of the case."""
        with closing(self._open_session()) as session:
            return with_flips([each for number in range(len(self._inputs)) for each in self._steps(session, number)])

    def _steps(self, session: Session, number: int) -> Sequence[Reference]:
        """The answers to one set of inputs: one, or one for each step."""
        first = self._reference(session, *self._inputs[number])
        if not self.case.loop:
            return (first,)
        return with_steps(
            self.case,
            input_sets(self.case)[number].inputs,
            first,
            lambda inputs, at: self._reference(session, inputs, at, True),
            lambda inputs: None if first.undecidable else self._float64(self.matched_inputs.applied_to(inputs)),
        )

    def references_in(self, precision: str | None) -> tuple[Reference, ...]:
        """The answers, with those of the file converted to ``precision`` by the transform to it; a note if it fails."""
        if precision in {None, half_precision_inside(self.signature)}:
            return self.references
        try:
            with closing(self._lowered(precision)) as session:
                return with_lower_steps(self.references, partial(self._with_lower, session))
        except Exception as error:  # noqa: BLE001 - a run that is missing; the rule without it is named in the row
            self._note(f"the reference does not run in {precision}: {error_summary(error)}")
            return self.references

    def answered(self, name: str, inputs: Inputs) -> Iterator[OtherInputs]:
        """The answer to further inputs that reach a threshold; none if the file refuses them, or is random."""
        if self.references[0].stochastic:
            return
        with closing(self._open_session()) as session, suppress(Exception):
            eager = session.run(self.matched_inputs.applied_to(inputs))
            yield OtherInputs(name, inputs, eager, partial(self._further, inputs, name), "thresholds")

    def _further(self, inputs: Inputs, at: str) -> Reference:
        with closing(self._open_session()) as session:
            return self._reference(session, inputs, at, True)

    def _lowered(self, precision: str) -> Session:
        """A session of the converted file on ONNX Runtime, or on onnx.reference, which alone has bfloat16."""
        transform = next(each for each in plugins("transforms").values() if each.precision == precision)
        runtime: Runtime = plugins("runtimes")["ort-cpu" if precision == "float16" else "reference"]
        options = UNOPTIMIZED if "optimization" in runtime.options else {}
        with tempfile.TemporaryDirectory(prefix="harness-reference-") as folder:
            path = Path(folder, "model.onnx")
            transform.apply(Path(self.file.path), path, TransformRequest(transform.name, {}, ()))
            return runtime.load(replace(self.artifact, path=path), options)

    def _with_lower(self, lowered: Session, reference: Reference) -> Reference:
        outputs = lowered.run(self.matched_inputs.applied_to(reference.inputs))
        return replace(reference, lower={name: values.astype(np.float64) for name, values in outputs.items()})

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """See :class:`harness.check.files.context.ReferenceAnswers`. The sessions stay open for the next sample."""
        sessions = self._sample_sessions
        if None not in sessions:
            sessions[None] = self._open_session()
        values = arrays_of(inputs)
        own = self.matched_inputs.applied_to(values)
        # An evaluation in float64 takes far longer than a run, and only some rules need it.
        needs_float64 = self.tolerance(None).has(Calibrated)
        float64 = self._float64(own) if needs_float64 else None
        eager = sessions[None].run(own)
        reference = Reference(values, eager, float64, (), (), stochastic=False, at=at, lower=self._as_lower(eager))
        if precision is None:
            return reference
        if precision not in sessions:
            sessions[precision] = self._lowered(precision)
        return self._with_lower(sessions[precision], reference)

    @cached_property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays under the file's names."""
        expect, names = self.case.expect, list(self.references[0].eager)
        outputs = None
        if expect.outputs is not None:
            names += [f"output_{at}" for at in range(len(names), len(expect.outputs))]
            outputs = {name: array(spec) for name, spec in zip(names, expect.outputs, strict=False)}
        first = self.case.inputs[0].label if self.case.inputs else None
        return Expected(first, outputs, expect.shape, expect.range, expect.formula)

    @property
    def eager_findings(self) -> tuple[Finding, ...]:
        """Nothing: no definition of the file is independent of it."""
        return ()

    def tolerance(self, _opset: int | None) -> Tolerance:
        """The case's tolerance, else the three-way rule."""
        requested = self.case.tolerance
        rule = requested.rule or Calibrated(precision=half_precision_inside(self.signature))
        tolerance = with_functions(Tolerance(rule, requested.by_output), self.artifact)
        return tolerance if self._strict_ulp is None else strict_ulp(tolerance, self._strict_ulp)

    def reference_inside(
        self, reference: Reference, store: ValueStore, _precision: str | None, _target: Target
    ) -> ReferenceInside:
        """The nodes of the file, run without graph optimization."""
        if self.file.format != "onnx":
            raise NotVisible("the reference is in ONNX Runtime's format, whose nodes cannot be seen")
        from harness.inside.graph import Graph
        from harness.inside.onnx_file import GraphReference

        runtime = DEFAULT_RUNTIMES[self.file.format]
        options = UNOPTIMIZED if "optimization" in self._runtime.options else {}
        inputs = self.matched_inputs.applied_to(reference.inputs)
        graph = Graph(self.artifact, Target(FILE, runtime, options=options), inputs, store)
        return GraphReference(graph, self.artifact.path, store)

    def eager_answer(self, inputs: Inputs) -> Inputs | None:
        """See :class:`ReferenceAnswers`."""
        with suppress(Exception), closing(self._open_session()) as session:
            return session.run(self.matched_inputs.applied_to(inputs))
        return None

    def eager_call(self) -> Call:
        """A call of the file as it would be deployed, with all optimizations, on the first inputs; for timing."""
        session: Session = self._runtime.load(self.artifact, {})
        return session.bind(self.matched_inputs.applied_to(self._inputs[0][0]))

    @cached_property
    def _inputs(self) -> Sequence[tuple[Inputs, str | None, bool]]:
        if self._given is not None:
            return self._given
        return [(arrays_of(each.inputs), each.at, each.draw > 1) for each in input_sets(self.case)]

    @cached_property
    def matched_inputs(self) -> MatchedInputs:
        """How the case's inputs reach the file."""
        first = self._inputs[0][0]
        given = [NamedInput(label, values.dtype, values.shape) for label, values in first.items()]
        return match_inputs(given, self.signature, Path(self.file.path).name)

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = plugins("runtimes")[DEFAULT_RUNTIMES[self.file.format]]
        return runtime

    def _open_session(self) -> Session:
        """A session without graph optimization; with it, and a note, for a file that does not load otherwise."""
        if "optimization" in self._runtime.options:
            try:
                return self._runtime.load(self.artifact, UNOPTIMIZED)
            except Exception as error:  # noqa: BLE001 - without it the file is only run as it would be deployed
                self._further_notes.append(f"the reference does not load without optimization: {error_summary(error)}")
        return self._runtime.load(self.artifact, {})

    def _reference(self, session: Session, inputs: Inputs, at: str | None, repeats_shapes: bool) -> Reference:
        own = self.matched_inputs.applied_to(inputs)
        eager = session.run(own)
        again = session.run(own)
        stochastic = not all(same_bits(eager[name], again[name]) for name in eager)
        float64 = None if stochastic else self._float64(own)
        undecidable = None if float64 is None else evaluation_problem(eager, float64, self.tolerance(None))
        self._note(undecidable)
        return Reference(
            inputs=inputs,
            eager=eager,
            float64=None if undecidable else float64,
            magnitudes=(),
            undefined=(),
            stochastic=stochastic,
            unrepeatable="the reference draws random numbers at each call" if stochastic else None,
            at=at,
            repeats_shapes=repeats_shapes,
            undecidable=undecidable,
            lower=self._as_lower(eager),
        )

    def _as_lower(self, answer: Mapping[str, Array]) -> Mapping[str, Array] | None:
        """``answer`` as the run in 16 bits that it is, if the file computes in them.

        ONNX Runtime may leave out the roundings between nodes; then the least that is allowed in 16 bits counts.
        """
        if half_precision_inside(self.signature) is None:
            return None
        return {name: values.astype(np.float64) for name, values in answer.items() if values.dtype.kind not in "OSU"}

    def _float64(self, inputs: Inputs) -> Mapping[str, Array] | None:
        """The file evaluated in float64; None, with a note, if it cannot be or the evaluation is not believed."""
        path, reason = Path(self.file.path), None
        if self.file.format != "onnx":
            reason = "only ONNX files are evaluated in float64"
        elif (reason := not_believed_reason(path)) is None:
            try:
                return {name: np.asarray(values) for name, values in evaluate(path, inputs).items()}
            except Exception as error:  # noqa: BLE001 - an evaluation that fails is a reference that is missing
                reason = f"the file could not be evaluated: {error_summary(error)}"
        self._note(f"no float64 reference: {reason}")
        return None

    def _note(self, note: str | None) -> None:
        if note is not None and note not in self._further_notes:
            self._further_notes.append(note)
