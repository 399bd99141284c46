"""Compare two models in this process, without a spec: each is a model file or a module in memory."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.cache.memo import Memo, NullCapture
from harness.check.check import check
from harness.check.files.context import TestedFile
from harness.check.files.drawing import drawn_inputs, in_dtype_of
from harness.check.files.matching import InputsDoNotFit
from harness.check.files.reference import FileReference, ReferenceAnswers
from harness.check.files.renamed_reference import ReferenceForModel
from harness.check.files.signatures import Declared, FileSignature, mixed_labels, module_signature, read_file_signature
from harness.check.judging.judge import Judge, run_twice
from harness.check.judging.layers import with_layers
from harness.check.results import with_error, with_verdict
from harness.check.settings import Settings
from harness.check.stages import MAX_MESSAGE_LENGTH, Clock, StageStopped
from harness.compare.inconclusive import with_training_mode
from harness.errors import Location, UsageError, bounded_text
from harness.exporters import Artifact
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Session
from harness.spec.language.case import Case, FactoryModel, Mode, StoredModel, TensorSpec, WeightedModel
from harness.spec.language.data import SpecFolder
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.names import FACTORY, as_label
from harness.spec.language.inputs.structure import Structure, flat_tree
from harness.spec.language.inputs.tensors import tensor_spec
from harness.spec.language.schema import Input
from harness.spec.language.tolerances import CaseTolerance
from harness.spec.model_files import MODULE_FORMATS, stored_model
from harness.spec.targets import FILE, FORMATS, TESTED_FILE, Target, parse_target, runs_format
from harness.spec.targets.sets import targets_of, tested_target

if TYPE_CHECKING:
    from torch import nn

    from harness.check.module.in_memory import InMemoryCase

Array = NDArray[Any]
Inputs = Mapping[str, Array]

SUBJECT = "subject"
"""The name of the subject in its targets: ``file:subject/ort-cpu``."""
EAGER_TARGET = "eager/torch-cpu"
"""The target of a subject that is a module in memory: it is called as it is."""
DRAWS = 2
FOLDER = SpecFolder()
SETTINGS = Settings(timeout=None, latency=False)


def compare_in_memory(
    subject: Any,
    reference: Any,
    inputs: Any,
    targets: Sequence[str],
    tolerance: CaseTolerance,
    *,
    layers: bool = False,
) -> tuple[Result, ...]:
    """The result of ``subject`` on each target, or on the default one, compared with ``reference``.

    Each side is an ``nn.Module`` or the path of a model file. Neither changes. Raises :class:`UsageError` for a side
    that is neither, inputs that are no arrays, and targets that do not run the subject.
    """
    sides = {"subject": _side(subject, "subject"), "reference": _side(reference, "reference")}
    own, other = sides.values()
    selected = _targets(own, targets)
    signatures = [_signature(side) for side in (own, other)]
    sets, structure = _drawn(*signatures) if inputs is None else _given(inputs, *signatures)
    case = replace(_case(own, other, sets[0], tolerance), structure=structure)
    settings = replace(SETTINGS, layers=layers)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder, _log() as log:
        answers = _reference(case, other, sets, Path(folder))
        if not isinstance(own, StoredModel):
            of_subject = _module_answers(replace(case, mode=_mode(own)), own, sets, Path(folder))
            result = _check_module(case, own, answers, settings)
            words = getattr(answers, "training", None) or of_subject.training
            results = [result if words is None else with_training_mode(result, words)]
        else:
            tested = TestedFile(case, SUBJECT, answers, ArtifactCache(None, Path(folder)))
            results = [check(tested, target, settings, Clock(folder=Path(folder))) for target in selected]
    return tuple(replace(result, log=tuple(log), where=None) for result in results)


def _side(value: Any, name: str) -> StoredModel | nn.Module:
    if isinstance(value, str | Path):
        if FACTORY.fullmatch(str(value)):
            raise UsageError(f"{name}: {value} names a callable; give the module that it returns")
        return stored_model(Path(value))
    if _is_module(value):
        return value
    raise UsageError(f"{name}: {type(value).__name__} is neither a torch.nn.Module nor a path; give one of them")


def _is_module(value: object) -> TypeGuard[nn.Module]:
    # Only where torch is loaded already can there be a module.
    return any(
        each.__module__ == "torch.nn.modules.module" and each.__name__ == "Module" for each in type(value).__mro__
    )


def _targets(own: StoredModel | nn.Module, words: Sequence[str]) -> list[Target]:
    if not isinstance(own, StoredModel):
        if words:
            raise UsageError(
                "targets: a module is called as it is; give the path of its export, or use harness.verify to export it"
            )
        return []
    if not words:
        return [targets_of(SUBJECT, own)[0]]
    selected = [parse_target(word if word.startswith(TESTED_FILE) else tested_target(SUBJECT, word)) for word in words]
    for target in selected:
        if target.tested_file != SUBJECT or not runs_format(plugins("runtimes")[target.runtime], own.format):
            raise UsageError(f"targets: {target.runtime} does not run {own.path}, which is {FORMATS[own.format]}")
    return selected


def _signature(side: StoredModel | nn.Module) -> FileSignature:
    return read_file_signature(side) if isinstance(side, StoredModel) else module_signature(side)


def _drawn(subject: FileSignature, reference: FileSignature) -> tuple[list[Inputs], None]:
    """Two sets of inputs that share no values, in the declared dtypes and shapes."""
    try:
        drawn = drawn_inputs(subject, reference)
    except InputsDoNotFit as error:
        raise UsageError(f"inputs: {error}") from None
    return [
        {
            each.given.label: array(
                tensor_spec(each.given.label, Input(**each.entry), "float32", f"draw {draw}", FOLDER)
            )
            for each in drawn
        }
        for draw in range(DRAWS)
    ], None


def _given(inputs: Any, subject: FileSignature, reference: FileSignature) -> tuple[list[Inputs], Structure | None]:
    """``inputs`` by label, floating ones as a module takes them; and how they are nested, None if they are not."""
    arrays: dict[str, Array] = {}

    def add(label: str, value: Any) -> None:
        values = _array(label, value)
        arrays[label] = values.astype(in_dtype_of(reference, values.dtype), copy=False)

    structure = {label: flat_tree(label, value, add) for label, value in _by_label(inputs, subject, reference).items()}
    if not arrays:
        raise UsageError("inputs: there is no array in them; give at least one")
    if isinstance(inputs, Mapping) and (mixed := mixed_labels(list(arrays), subject, reference)) is not None:
        raise UsageError(f"inputs: {mixed}")
    is_by_order = not isinstance(inputs, Mapping) and not (subject.arguments or reference.arguments)
    if is_by_order and len(arrays) == len(subject.inputs):
        names = [as_label(each.name) for each in subject.inputs]
        return [dict(zip(names, arrays.values(), strict=True))], None
    is_nested = any(not isinstance(tree, str) for tree in structure.values())
    return [arrays], structure if is_nested else None


def _by_label(inputs: Any, subject: FileSignature, reference: FileSignature) -> dict[str, Any]:
    """``inputs`` under their own names, else in the order of the parameters of a module, or of the file's inputs."""
    if isinstance(inputs, Mapping):
        return {str(label): value for label, value in inputs.items()}
    values = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    named = [[as_label(each.name) for each in side.inputs] for side in (subject, reference)]
    declared = next((names for names in named if len(names) == len(values)), None)
    if declared is None:
        parameters = [list(each.arguments) for each in (subject, reference) if len(each.arguments) >= len(values)]
        numbered = ["x"] if len(values) == 1 else [f"x{index}" for index in range(len(values))]
        declared = next(iter(parameters), numbered)[: len(values)]
    return dict(zip(map(as_label, declared), values, strict=True))


def _array(label: str, value: Any) -> Array:
    if isinstance(value, np.ndarray | np.generic):
        values = np.asarray(value)
        if values.dtype.kind in "OSUMm":
            raise UsageError(f"inputs: {label} has dtype {values.dtype}, which no input can have; convert it")
        return values
    if hasattr(value, "detach"):
        from harness.model.tensors import ON_META, to_numpy

        if getattr(value, "is_meta", False):
            raise UsageError(f"inputs: {label} is {ON_META}; give a tensor on the CPU")
        return to_numpy(value)
    raise UsageError(f"inputs: {label} is {type(value).__name__}, not an array; give NumPy arrays or tensors")


def _case(
    own: StoredModel | nn.Module, other: StoredModel | nn.Module, inputs: Inputs, tolerance: CaseTolerance
) -> Case:
    """The case that a spec would describe."""
    model = other if isinstance(other, StoredModel) else FactoryModel(_name(other))
    return Case(
        id=Path(own.path).stem if isinstance(own, StoredModel) else type(own).__name__,
        about="",
        model=WeightedModel(model),
        inputs=tuple(TensorSpec(label, values.dtype.name, values.shape) for label, values in inputs.items()),
        where=Location(""),
        dtype=next((each.dtype.name for each in inputs.values() if each.dtype.kind == "f"), "float32"),
        tolerance=tolerance,
        files={SUBJECT: own} if isinstance(own, StoredModel) else {},
        mode="eval" if isinstance(other, StoredModel) else _mode(other),
    )


def _mode(module: nn.Module) -> Mode:
    return "train" if module.training else "eval"


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}:{type(module).__qualname__}"


def _reference(case: Case, other: StoredModel | nn.Module, sets: Sequence[Inputs], scratch: Path) -> ReferenceAnswers:
    if isinstance(other, StoredModel) and other.format not in MODULE_FORMATS:
        names = [f"draw {number}" if number > 1 else None for number in range(1, len(sets) + 1)]
        return FileReference(case, inputs=[(each, name, bool(name)) for each, name in zip(sets, names, strict=True)])
    return _module_answers(case, other, sets, scratch)


def _module_answers(case: Case, side: StoredModel | nn.Module, sets: Sequence[Inputs], scratch: Path) -> InMemoryCase:
    """The answers of a module in memory, or of one that torch loads."""
    from harness.check.module.in_memory import InMemoryCase
    from harness.model.binding import takes_tensors
    from harness.model.tensors import copied_to_cpu, to_torch
    from harness.model.user_modules import load_stored_module

    module = load_stored_module(side) if isinstance(side, StoredModel) else copied_to_cpu(side, "module")
    tensors = [{label: to_torch(values) for label, values in each.items()} for each in sets]
    return InMemoryCase(case, ArtifactCache(None, scratch), takes_tensors(module, case), tensors)


def _check_module(case: Case, module: nn.Module, reference: ReferenceAnswers, settings: Settings) -> Result:
    """The result of a module that is called as it is. Nobody is blamed: there is no export and no runtime."""
    from harness.model.binding import takes_tensors
    from harness.model.tensors import copied_to_cpu
    from harness.runtimes._torch_session import TorchSession

    clock = Clock()
    result = Result(case.id, EAGER_TARGET, "passed", seconds=clock.seconds)
    signature = module_signature(module)
    by_name = replace(signature, inputs=tuple(Declared(each.label) for each in case.inputs))
    view = ReferenceForModel(type(module).__name__, lambda: by_name, reference, case)
    try:
        with clock.stage("build"):
            references, findings = view.references, reference.eager_findings

        def open_session() -> Session:
            import torch

            called = takes_tensors(copied_to_cpu(module, "module"), case)
            return TorchSession(called, {"threads": str(torch.get_num_threads())}, "cpu", "none")

        with clock.stage("run"):
            called, answers, _ = run_twice(references, open_session(), open_session)
        with clock.stage("compare"):
            judge = Judge(Memo(NullCapture()))
            verdict = judge.verdict(called, view.expected, answers, view.tolerance(None), open_session())
    except StageStopped as stop:
        return with_error(result, stop)
    result = replace(result, notes=(*view.notes, *_passed_by_order(case, module, signature)))
    others = getattr(reference, "further_inputs", lambda _kinds: ())
    result = with_verdict(result, case, verdict, findings, others=partial(others, {"alike"}))
    program, first = Artifact("program", Path(), ""), called[verdict.first_failing]
    target = Target(FILE, "torch-cpu")
    return with_layers(result, case, view.reference_inside, target, program, first, open_session(), settings)


def _passed_by_order(case: Case, module: nn.Module, signature: FileSignature) -> Iterator[str]:
    """The note on labels that are no parameters of ``module``."""
    if signature.has_names and (others := [label for label in case.arguments if label not in signature.defaults]):
        name = type(module).__name__
        yield f"passed to {name}({', '.join(signature.defaults)}) by order: {', '.join(others)}"


@contextmanager
def _log() -> Iterator[list[str]]:
    """Collect the libraries' warnings, whatever filters this process has."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    lines += [f"{each.category.__name__}: {bounded_text(each.message)}"[:MAX_MESSAGE_LENGTH] for each in caught]
