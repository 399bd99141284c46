"""Run a file under test with weights of its reference in place of its own, to see what the difference does.

The copy runs on the same inputs and the same runtime. Where the file failed and agrees then, the weights are the cause.
Where it passed and no bit of an output changes, the inputs never reached the place where they differ, and the pass says
nothing about it. If the outputs get worse, the name stands for other values in the file, and nothing is reported.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.file_runs import error_summary
from harness.check.files.weights import DifferingWeight, PairedWeights
from harness.compare.inconclusive import with_cause
from harness.compare.numbers import same_bits
from harness.compare.verdict import compare_with_reference
from harness.data_files.onnx_files import from_array
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Session
from harness.spec.language.case import StoredModel
from harness.spec.language.inputs.tensors import arrays_of
from harness.spec.targets import FORMATS, Target

if TYPE_CHECKING:
    from harness.check.files.context import TestedFile

Array = NDArray[Any]
Answer = Mapping[str, Array]

NAMED = 3
"""The weights that a message names."""
MOST_ALONE = 8
"""If more weights differ, they are put into the file together only: each one alone is one more run."""


def with_differing_weights(
    result: Result,
    tested: TestedFile,
    target: Target,
    paired_weights: Callable[[], PairedWeights],
    as_the_file_takes: Callable[[Answer], Answer],
) -> Result:
    """``result`` with the evidence that the differing weights give.

    A failure that ends with the reference's weights is the file's own. A pass that does not depend on them is
    inconclusive. A note says so if they are not compared: a transformed file has weights of its own, and those of some
    formats are not read. ``as_the_file_takes`` gives inputs the file's names.
    """
    if tested.unfit_reference is not None:
        return result
    if (reason := _not_comparable(tested, target)) is not None:
        return replace(result, notes=(*result.notes, f"the weights were not compared: {reason}"))
    judge = _explained_failure if result.status == "failed" else _judged_pass
    try:
        paired = paired_weights()
        if not paired.differing or any(each.stochastic for each in tested.references):
            return result
        return judge(result, paired, _Swap(tested, target, as_the_file_takes))
    except Exception as error:  # noqa: BLE001 - the verdict on the outputs is known without it, and the note says so
        return replace(result, notes=(*result.notes, f"the weights were not compared: {error_summary(error)}"))


def _not_comparable(tested: TestedFile, target: Target) -> str | None:
    """Why the stored weights of the file and of its reference cannot be compared; None if they can."""
    if target.transforms:
        return f"+{'+'.join(target.transforms)} changes those of {Path(tested.file.path).name}"
    model = tested.case.model.model
    for file in (tested.file, *([model] if isinstance(model, StoredModel) else [])):
        if file.format not in _WRITERS:
            return f"those in {FORMATS[file.format]} ({Path(file.path).name}) are not read"
    return None


def _explained_failure(result: Result, paired: PairedWeights, swap: _Swap) -> Result:
    differing = list(paired.differing)
    if len(differing) == paired.count > 1 and all(each.other for each in differing):
        cause = f"all {paired.count:,} weights differ: {_question(swap.tested, paired)}"
        return replace(with_cause(result, cause), blame=None, evidence=(_words(differing),))
    if not swap.fails:
        return result
    cause_of = differing if swap.agrees_with(differing) else []
    if not cause_of and 1 < len(differing) <= MOST_ALONE:
        helpful = [each for each in differing if swap.is_nearer_with([each])]
        cause_of = helpful if 0 < len(helpful) < len(differing) and swap.agrees_with(helpful) else []
    if not cause_of:
        return result
    others = result.evidence if result.blame == "exporter" else ()
    proof = f"{_words(cause_of)}; with the reference's weight{'s' * (len(cause_of) > 1)} the file agrees"
    return replace(result, blame="exporter", evidence=(proof, *others))


def _judged_pass(result: Result, paired: PairedWeights, swap: _Swap) -> Result:
    differing = list(paired.differing)
    if not swap.is_reached_by(differing):
        unreached, nearer = differing, []
    elif 1 < len(differing) <= MOST_ALONE:
        unreached = [each for each in differing if not swap.is_reached_by([each])]
        nearer = [each for each in differing if each not in unreached and swap.is_nearer_with([each])]
    else:
        unreached, nearer = [], differing if swap.is_nearer_with(differing) else []
    if nearer:
        them = "weights" if len(nearer) > 1 else "weight"
        note = f"{_words(nearer)}; with the reference's {them} the outputs come nearer to the reference's"
        result = replace(result, notes=(*result.notes, note))
    if not unreached or not result.outputs:
        return result
    first, *others = result.outputs
    reasons = [f"{_words(unreached)}, which these inputs do not reach", first.inconclusive]
    inconclusive = "; ".join(each for each in reasons if each)
    return replace(result, outputs=(replace(first, inconclusive=inconclusive), *others))


def _question(tested: TestedFile, paired: PairedWeights) -> str:
    """What to ask where every weight differs: most likely the reference is not the trained model."""
    model = tested.case.model
    if isinstance(model.model, StoredModel):
        return "are both files exports of one trained model?"
    if paired.in_memory:
        return "does the module hold its trained weights?"
    if model.weights_file or model.weights:
        return "are the reference's weights those that the file was exported with?"
    return "was the reference built with its trained weights? pass --weights FILE (in a spec, `weights:`)"


def _words(weights: Sequence[DifferingWeight]) -> str:
    """Which weights differ and where: the first three, and the number of the rest."""
    first, *others = weights[:NAMED]
    words = [
        f"{first.name} differs from the reference's {first.where}",
        *(f"{each.name} {each.where}" for each in others),
    ]
    more = len(weights) - NAMED
    return ", ".join(words) + (f", and {more:,} more weight{'s' * (more > 1)}" if more > 0 else "")


class _Swap:
    """The file under test on a target, run with the reference's values in place of some of its weights."""

    def __init__(self, tested: TestedFile, target: Target, as_the_file_takes: Callable[[Answer], Answer]) -> None:
        self.tested, self._target, self._as_the_file_takes = tested, target, as_the_file_takes
        self._artifact = tested.plain_artifact
        self._references = tested.references_for(target)
        self._answers_with: dict[tuple[str, ...], Sequence[Answer]] = {}

    @cached_property
    def _answers(self) -> Sequence[Answer]:
        return self._run(self._artifact)

    @property
    def fails(self) -> bool:
        """True if the file as it is does not agree with the reference at a first call."""
        return not self._agree(self._answers)

    def agrees_with(self, weights: Sequence[DifferingWeight]) -> bool:
        """True if the file agrees with the reference at all inputs, with the reference's ``weights``."""
        return self._agree(self._with(weights))

    def is_reached_by(self, weights: Sequence[DifferingWeight]) -> bool:
        """True if a bit of an output changes with the reference's ``weights``, at any of the inputs."""
        changed = (
            not same_bits(values, other[name])
            for own, other in zip(self._answers, self._with(weights), strict=True)
            for name, values in own.items()
        )
        return any(changed) or self._changes_a_sample(weights)

    def is_nearer_with(self, weights: Sequence[DifferingWeight]) -> bool:
        """True if the reference's ``weights`` bring the outputs nearer to the reference's."""
        return self._error(self._with(weights)) < self._error(self._answers)

    def _changes_a_sample(self, weights: Sequence[DifferingWeight]) -> bool:
        samples = self.tested.case.samples if self.tested.case.data is not None else ()
        if not samples:
            return False
        with _swapped(self._artifact, weights) as artifact:
            sessions = [self._load(each) for each in (self._artifact, artifact)]
            try:
                for _, tensors in samples:
                    inputs = self._as_the_file_takes(arrays_of(tensors))
                    own, other = (each.run(inputs) for each in sessions)
                    if not all(same_bits(values, other[name]) for name, values in own.items()):
                        return True
            finally:
                for each in sessions:
                    each.close()
        return False

    def _with(self, weights: Sequence[DifferingWeight]) -> Sequence[Answer]:
        names = tuple(each.name for each in weights)
        if names not in self._answers_with:
            with _swapped(self._artifact, weights) as artifact:
                self._answers_with[names] = self._run(artifact)
        return self._answers_with[names]

    def _load(self, artifact: Artifact) -> Session:
        session: Session = plugins("runtimes")[self._target.runtime].load(artifact, self._target.options)
        return session

    def _run(self, artifact: Artifact) -> Sequence[Answer]:
        if any(each.keeps_state for each in self._references):  # each of them is the answer of a first call
            return [answer for each in self._references for answer in self._run_in_one_session(artifact, [each])]
        return self._run_in_one_session(artifact, self._references)

    def _run_in_one_session(self, artifact: Artifact, references: Sequence[Reference]) -> Sequence[Answer]:
        session = self._load(artifact)
        try:
            return [each.comparable_part(session.run(each.inputs)) for each in references]
        finally:
            session.close()

    def _agree(self, answers: Sequence[Answer]) -> bool:
        tolerance = self.tested.tolerance(self._artifact.opset, self._target)
        pairs = zip(answers, self._references, strict=True)
        return all(compare_with_reference(answer, each, tolerance).passed for answer, each in pairs)

    def _error(self, answers: Sequence[Answer]) -> float:
        """The sum of the squared errors of all outputs; infinite where NaN or infinities do not agree."""
        from harness.blame.disagreement import absolute_errors

        return sum(
            float(np.square(absolute_errors(answer[name], values)).sum())
            for answer, reference in zip(answers, self._references, strict=True)
            for name, values in reference.eager.items()
            if name in answer and answer[name].shape == values.shape
        )


@contextmanager
def _swapped(artifact: Artifact, weights: Sequence[DifferingWeight]) -> Iterator[Artifact]:
    """A copy of the file in which ``weights`` have the reference's values."""
    with tempfile.TemporaryDirectory(prefix="harness-weights-") as folder:
        path = Path(folder, artifact.path.name)
        with np.errstate(over="ignore"):
            values = {each.name: np.ascontiguousarray(each.reference, each.dtype) for each in weights}
        _WRITERS[artifact.format](artifact.path, path, values)
        yield replace(artifact, path=path, digest=f"{artifact.digest} {','.join(values)}")


def _write_onnx(source: Path, path: Path, weights: Mapping[str, Array]) -> None:
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = onnx.load(str(source), load_external_data=False)
    beside: set[str] = set()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(from_array(weights[tensor.name].reshape(tensor.dims), tensor.name))
        elif uses_external_data(tensor):
            beside.add(ExternalDataInfo(tensor).location)
    for location in beside:
        (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / location, path.parent / location)
    onnx.save(model, str(path))


def _write_torchscript(source: Path, path: Path, weights: Mapping[str, Array]) -> None:
    import torch

    from harness.model.user_modules import load_torchscript

    module = load_torchscript(source)
    _fill(module.state_dict(), weights)
    torch.jit.save(module, path)


def _write_program(source: Path, path: Path, weights: Mapping[str, Array]) -> None:
    import torch

    program = torch.export.load(source)
    _fill(program.state_dict, weights)
    torch.export.save(program, path)


def _fill(state: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    import torch

    from harness.model.tensors import to_torch

    with torch.no_grad():
        for name, values in weights.items():
            state[name].copy_(to_torch(values).reshape(state[name].shape))


_WRITERS: Mapping[str, Callable[[Path, Path, Mapping[str, Array]], None]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "program": _write_program,
}
