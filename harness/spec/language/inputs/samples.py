"""The ``samples`` of a case: data files, each a further set of inputs whose labels are its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import Problem, SpecError, UsageError
from harness.spec.language.case import TensorSpec
from harness.spec.language.data import SpecFolder, tensors_from_file
from harness.spec.language.inputs.names import LABEL, TENSOR_LABEL
from harness.spec.language.inputs.tensors import problem_from
from harness.spec.language.schema import Case
from harness.spec.quoting import format_value, join_names
from harness.spec.yaml.tree import Node

Inputs = Mapping[str, TensorSpec]
Sample = tuple[str, tuple[TensorSpec, ...]]

MAX_SAMPLES = 1000


def with_samples(node: Node, case: Case, inputs: Inputs, folder: SpecFolder) -> tuple[Inputs, tuple[Sample, ...]]:
    """The inputs of the case at ``node``, and its samples by the names of their files.

    Without ``inputs`` the first sample is the case's own inputs. Each sample has a tensor for every input and no other.
    Its dtypes and layouts are those of the inputs, and so are its sizes, but for dynamic axes. Raises
    :class:`SpecError` with every sample that does not fit.
    """
    if case.samples is None:
        return inputs, ()
    where = node.location(["samples"])
    try:
        paths = tuple(dict.fromkeys(path for pattern in case.samples for path in folder.samples(pattern)))
    except UsageError as error:
        raise SpecError([problem_from(error, where)]) from None
    if len(paths) > MAX_SAMPLES:
        message = f"samples: {len(paths)} files match"
        raise SpecError([Problem(where, message, f"at most {MAX_SAMPLES}; name fewer, or make a spec for each part")])
    problems: list[Problem] = []
    samples: list[Sample] = []
    for path in paths:
        try:
            found = tensors_from_file(path, case.dtype)
        except UsageError as error:
            problems.append(problem_from(error, where))
            continue
        inputs = inputs or found
        wrong = list(_mismatches(found, inputs, case))
        problems += (Problem(where, f"samples: {path.name}: {message}", remedy) for message, remedy in wrong)
        if not wrong:
            samples.append((_name(path, paths), tuple(_as(found[label], spec) for label, spec in inputs.items())))
    if problems:
        raise SpecError(problems)
    return (inputs, tuple(samples)) if case.inputs else (inputs, tuple(samples[1:]))


def _name(path: Path, paths: tuple[Path, ...]) -> str:
    """The file's name; with its folder if another sample has the same name."""
    is_unique = sum(other.name == path.name for other in paths) == 1
    return path.name if is_unique else "/".join(path.parts[-2:])


def _as(found: TensorSpec, spec: TensorSpec) -> TensorSpec:
    return replace(found, dtype=spec.dtype, layout=spec.layout)


def _mismatches(found: Inputs, inputs: Inputs, case: Case) -> Iterator[tuple[str, str]]:
    """What keeps a sample from being a set of the case's inputs, each with its remedy."""
    pattern = TENSOR_LABEL if case.inputs else LABEL  # the structure of nested inputs is not guessed from a file
    if unusable := [name for name in found if not pattern.fullmatch(name)]:
        yield (
            f"{', '.join(name or 'an array without a name' for name in unusable)}: not a label",
            "name each array after its input, as with numpy.savez(file, x=...)",
        )
        return
    if found.keys() != inputs.keys():
        message = f"it holds {join_names(found)}, and the inputs are {join_names(inputs)}"
        yield message, "give each sample one array for each input, named after it"
        return
    for label, spec in inputs.items():
        shape, dynamic = found[label].shape, case.dynamic.get(label, {})
        fits = len(shape) == len(spec.shape) and all(
            size == expected or axis in dynamic
            for axis, (size, expected) in enumerate(zip(shape, spec.shape, strict=True))
        )
        if not fits:
            message = f"{label} has shape {format_value(list(shape))}, the case's own {format_value(list(spec.shape))}"
            yield message, "make its axes `dynamic:`, or give all samples one shape"
