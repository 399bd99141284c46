"""Write the spec that asks whether one model is still another: ``harness compare`` runs it, ``--save-spec`` keeps it.

:func:`comparison_spec` is called in a separate process. It reads the signature of each side, which builds the module of
a callable and so runs the user's code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.check.files.drawing import CASE_DTYPES, drawn_inputs, in_dtype_of
from harness.check.files.matching import InputsDoNotFit, NamedInput, match_inputs
from harness.check.files.signatures import (
    FileSignature,
    called_with,
    mixed_labels,
    module_signature,
    read_file_signature,
)
from harness.data_files import StoredArray, names_of, sample_paths, stored_arrays
from harness.errors import Location, StageError, UsageError, escape_path
from harness.result import Stage
from harness.scaffold.nesting import array_labels, nested, nested_arguments, nested_labels
from harness.spec.language.data import SpecFolder
from harness.spec.language.expand import expand
from harness.spec.language.inputs.names import as_label
from harness.spec.language.inputs.samples import WHOLE_SAMPLES
from harness.spec.model_files import is_model_file, stored_model
from harness.spec.yaml import parse

if TYPE_CHECKING:
    from torch import nn

    from harness.spec.language.case import Case

SUBJECT = "subject"
"""The name of the file under test in the spec, and so in its targets: ``file:subject/ort-cpu``."""
SEED = 0
ADVICE = "give --shape {name}=1,3,224,224, or --inputs FILE"
Weights = str | dict[str, str] | None
_ESCAPED = re.compile(r"\[([*?[])\]")


@dataclass(frozen=True, slots=True)
class Question:
    """Is ``subject`` still ``reference``? Paths are relative to ``home``, as they were typed.

    ``reference`` is a model file or a callable, ``file.py:callable`` or ``package.module:callable``. ``inputs`` are
    data files or folders of them; without any, inputs are drawn in the declared shapes, or in ``shapes`` by name.
    ``loop`` has the inputs that outputs feed at the next of ``steps`` calls.
    """

    subject: str
    reference: str
    home: Path
    inputs: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    tolerance: Any = None
    loop: Mapping[str, str] = field(default_factory=dict)
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class ComparisonSpec:
    """The spec as data, with paths relative to ``home``, its inputs in words, and whether a module was in training."""

    spec: Mapping[str, Any]
    inputs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    in_training: bool = False


@dataclass(frozen=True, slots=True)
class NoComparison:
    """Why there is nothing to compare: one sentence for each problem."""

    problems: tuple[str, ...]


def comparison_spec(
    _scratch: Path, question: Question, *, announce: Callable[[Stage], None]
) -> ComparisonSpec | NoComparison:
    """The spec that asks ``question``, or every reason why it cannot be asked."""
    os.chdir(question.home)
    announce("build")
    problems: list[str] = []
    names = dict.fromkeys((question.subject, question.reference))
    sides = {name: _side(name, question, problems) for name in names}
    samples = read_samples(question, problems)
    (subject, _), (reference, weights) = sides[question.subject], sides[question.reference]
    if problems or subject is None or reference is None:
        return NoComparison(tuple(problems))
    try:
        inputs = _given_inputs(samples, subject, reference) if samples else _drawn(question, subject, reference)
    except InputsDoNotFit as error:
        return NoComparison(error.problems)
    notes: list[str] = []
    given = [each.given for each in inputs]
    arguments = nested_arguments([each.label for each in given])
    for name, signature in ((question.subject, subject), (question.reference, reference)):
        try:
            called = called_with(signature, arguments)[0]
            notes += match_inputs(given, called, _short(name), may_drop=name == question.subject).notes
        except InputsDoNotFit as error:
            problems += error.problems
        except StageError as error:
            problems.append(f"{name}: {error}")
    if problems:
        return NoComparison(tuple(problems))
    words = tuple(each.in_words for each in inputs)
    return ComparisonSpec(_spec(question, weights, inputs, samples), words, tuple(notes), reference.in_training)


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of the spec: what it is, how the spec writes it, and the same in words."""

    given: NamedInput
    entry: Mapping[str, Any]
    origin: str

    @property
    def in_words(self) -> str:
        return f"{self.given}, {self.origin}"


def spec_text(spec: Mapping[str, Any], header: str = "") -> str:
    """The spec as YAML."""
    text: str = yaml.safe_dump(spec, default_flow_style=None, sort_keys=False, width=100_000, allow_unicode=True)
    return header + text


def cases_of(spec: Mapping[str, Any], name: str, home: Path, *, allow_import: bool = True) -> tuple[Case, ...]:
    """The cases of ``spec``, as if it were a file ``name`` in the folder ``home`` that may name any file and any code.

    Raises :class:`SpecError` with everything that is wrong with the spec.
    """
    folder = SpecFolder(home, Path(home.anchor))
    return expand(parse(spec_text(spec), name), name, allow_import=allow_import, folder=folder)


def moved_spec(spec: Mapping[str, Any], home: Path, folder: SpecFolder) -> dict[str, Any]:
    """``spec`` with its paths relative to the folder of the spec's file.

    Raises :class:`UsageError` for a path that leads out of the folder that a spec's files must be in.
    """
    assert folder.folder is not None
    here = folder.folder

    def moved(text: str) -> str:
        path = os.path.relpath(home / text, here)
        folder.file(path)
        return path

    return {**spec, "cases": [_moved_case(case, moved) for case in spec["cases"]]}


def _moved_case(keys: Mapping[str, Any], moved: Callable[[str], str]) -> dict[str, Any]:
    case = dict(keys)
    for key in ("file", "weights"):
        if key in case:
            case[key] = moved(case[key]) if isinstance(case[key], str) else _moved_inputs(case[key], moved)
    if case.get("factory", "").rpartition(":")[0].endswith(".py"):
        path, _, name = case["factory"].rpartition(":")
        case["factory"] = f"{moved(path)}:{name}"
    if "samples" in case:
        texts = [case["samples"]] if isinstance(case["samples"], str) else case["samples"]
        case["samples"] = [_as_glob(moved(_ESCAPED.sub(r"\1", text))) for text in texts]
    if "files" in case:
        case["files"] = {name: moved(path) for name, path in case["files"].items()}
    case["inputs"] = _moved_inputs(case["inputs"], moved)
    return case


def _as_glob(path: str) -> str:
    """The glob that matches ``path`` alone."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _moved_inputs(inputs: Any, moved: Callable[[str], str]) -> Any:
    """Inputs at any depth with their files moved; the texts in a list are none."""
    if isinstance(inputs, Mapping):
        return {
            key: moved(entry) if key == "file" and isinstance(entry, str) else _moved_inputs(entry, moved)
            for key, entry in inputs.items()
        }
    return [_moved_inputs(entry, moved) for entry in inputs] if isinstance(inputs, list) else inputs


# The two sides


def _side(name: str, question: Question, problems: list[str]) -> tuple[FileSignature | None, Weights]:
    """What a side declares, None with its problems if it is no model, and its weights as a spec writes them."""
    try:
        if is_model_file(name):
            if name == question.reference and (question.weights or question.arguments):
                option = "--weights" if question.weights else "--args"
                problems.append(f"{option}: {name} is a file, which has its own; remove it, or name a callable")
            return read_file_signature(stored_model(Path(name))), None
        module, weights = built_module(question)
        return module_signature(module), weights
    except (UsageError, StageError) as error:
        problems.append(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a damaged file, or the user's own code: it is a line for the user
        from harness.check.stages import message_of

        problems.append(f"{escape_path(name)}: cannot be loaded: {message_of(error)}")
    return None, None


def built_module(question: Question) -> tuple[nn.Module, Weights]:
    """The module as the callable returns it, and its weights, which are not read, as a spec writes them.

    Raises :class:`UsageError` if no part of their file fits the module.
    """
    from harness.model.build import build_as_returned
    from harness.model.user_modules import argument_problem, find_factory
    from harness.model.weights import part_that_fits
    from harness.spec.language.case import Case, FactoryModel, WeightedModel

    name = _absolute(question.reference, question.home)
    function = find_factory(FactoryModel(name))
    if problem := argument_problem(function, question.arguments, "give them with --args '{{{name}: ...}}'"):
        raise UsageError(f"{question.reference}: {problem}")
    model = WeightedModel(FactoryModel(name, question.arguments), {})
    case = Case(question.reference, "", model, (), Location(question.reference), seed=SEED)
    module = build_as_returned(model, case)
    if question.weights is None:
        return module, None
    part = part_that_fits(module, stored_arrays(Path(question.weights)), question.weights)
    return module, question.weights if part is None else {"file": question.weights, "key": part}


def _absolute(factory: str, home: Path) -> str:
    file, _, name = factory.rpartition(":")
    return f"{(home / file).absolute()}:{name}" if file.endswith(".py") else factory


def _short(name: str) -> str:
    return Path(name).name


# Inputs


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs: the arrays of a data file."""

    path: Path
    arrays: Mapping[str, StoredArray]


def read_samples(question: Question, problems: list[str]) -> list[Sample]:
    """The data files of ``question``, with what is wrong with them added to ``problems``."""
    samples = []
    for text in question.inputs:
        try:
            samples += [Sample(path, stored_arrays(path)) for path in sample_paths(Path(text))]
        except UsageError as error:
            problems.append(str(error))
    if question.inputs and question.shapes:
        problems.append("--shape: the inputs come from --inputs; give one of them")
    return samples


def _given_inputs(samples: Sequence[Sample], subject: FileSignature, reference: FileSignature) -> list[_Input]:
    """The inputs of the first sample; the others have to hold the same."""
    first = samples[0]
    labels = nested_labels(
        array_labels(list(first.arrays), subject, reference), (*subject.arguments, *reference.arguments)
    )
    inputs = []
    further = f" and {len(samples) - 1:,} more" if len(samples) > 1 else ""
    for key, stored in first.arrays.items():
        if stored.dtype.name not in CASE_DTYPES:
            raise InputsDoNotFit([f"{first.path}: {key} is {stored.dtype.name}, which no input can be"])
        entry: dict[str, Any] = {"file": str(first.path)} | ({"key": key} if len(first.arrays) > 1 else {})
        dtype = in_dtype_of(reference, stored.dtype)
        entry["dtype"] = dtype.name
        given = NamedInput(labels[key], dtype, tuple(stored.shape))
        inputs.append(_Input(given, entry, f"from {escape_path(first.path)}{further}"))
    problems = list(_different_samples(samples, subject, reference))
    if (mixed := mixed_labels(list(labels.values()), subject, reference)) is not None:
        problems.append(f"{first.path}: {mixed}")
    if problems:
        raise InputsDoNotFit(problems)
    return inputs


def _different_samples(samples: Sequence[Sample], *sides: FileSignature) -> Iterator[str]:
    first = samples[0]
    labels = set(array_labels(list(first.arrays), *sides).values())
    for sample in samples[1:]:
        if set(array_labels(list(sample.arrays), *sides).values()) != labels:
            names, expected = (names_of(each.arrays) for each in (sample, first))
            yield f"{sample.path}: holds {names}, and {first.path} holds {expected}; each sample needs the same"


def _drawn(question: Question, subject: FileSignature, reference: FileSignature) -> list[_Input]:
    drawn = drawn_inputs(subject, reference, question.shapes, advice=ADVICE)
    labels = nested_labels(
        {each.name: as_label(each.name) for each in subject.inputs}, (*subject.arguments, *reference.arguments)
    )
    paths = {as_label(name): path for name, path in labels.items()}
    return [
        _Input(
            replace(each.given, label=paths.get(each.given.label, each.given.label)),
            each.entry,
            f"drawn{each.remark}",
        )
        for each in drawn
    ]


# The spec


def _spec(question: Question, weights: Weights, inputs: Sequence[_Input], samples: Sequence[Sample]) -> dict[str, Any]:
    case: dict[str, Any] = {"name": re.sub(r"[^A-Za-z0-9._-]", "-", Path(question.subject).stem) or "model"}
    case["file" if is_model_file(question.reference) else "factory"] = question.reference
    if question.arguments:
        case["args"] = dict(question.arguments)
    if weights is not None:
        case["weights"] = weights
    case["inputs"] = nested({each.given.label: dict(each.entry) for each in inputs})
    if len(samples) > 1:  # many are judged as a whole, the first among them
        further = samples if len(samples) > WHOLE_SAMPLES else samples[1:]
        case["samples"] = [_as_glob(os.path.relpath(sample.path, question.home)) for sample in further]
    case["files"] = {SUBJECT: question.subject}
    if question.loop:
        labels = {each.given.label for each in inputs}
        case["loop"] = {out: label if label in labels else as_label(label) for out, label in question.loop.items()}
    if question.steps is not None:
        case["steps"] = question.steps
    if question.tolerance is not None:
        case["tolerance"] = question.tolerance
    case["seed"] = SEED
    about = f"Is {_short(question.subject)} still {_short(question.reference)}?"
    return {"harness": 1, "about": about, "cases": [case]}
