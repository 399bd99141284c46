"""The ``samples`` of a case: data files, each a further set of inputs by label, and what is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from harness.data_files import TEST_DATA_NAME, UNNAMED, pick, stored_arrays
from harness.errors import Problem, SpecError, UsageError
from harness.spec.language.case import DataSettings, FileSource, TensorSpec
from harness.spec.language.data import SpecFolder, file_digest, tensors_from_file
from harness.spec.language.inputs.files import factory_name
from harness.spec.language.inputs.names import LABEL, TENSOR_LABEL, as_label
from harness.spec.language.inputs.tensors import problem_from
from harness.spec.language.schema import Case
from harness.spec.language.tolerances import Decisions
from harness.spec.quoting import format_value, join_names
from harness.spec.yaml.tree import Node

Inputs = Mapping[str, TensorSpec]
Sample = tuple[str, tuple[TensorSpec, ...]]

MAX_SAMPLES = 100_000
WHOLE_SAMPLES = 32
"""Of more samples than this, none is kept: they are run one by one and judged as a whole."""
FEWER = f"at most {MAX_SAMPLES:,}; name fewer, or make a spec for each part"


def with_samples(
    node: Node, case: Case, inputs: Inputs, folder: SpecFolder, *, allow_import: bool = False
) -> tuple[Inputs, tuple[Sample, ...], DataSettings | None]:
    """The inputs of the case at ``node``, its samples by the names of their files, and how these are judged.

    Without ``inputs`` the first sample is the case's own inputs. Each sample has a tensor for every input and no other.
    Its dtypes and layouts are those of the inputs, and so are its sizes, but for dynamic axes. Raises
    :class:`SpecError` with every sample that does not fit.
    """
    if problems := list(_key_problems(node, case, folder, allow_import=allow_import)):
        raise SpecError(problems)
    if case.samples is None:
        return inputs, (), None
    where = node.location(["samples"])
    try:
        paths = tuple(dict.fromkeys(path for pattern in case.samples for path in folder.samples(pattern)))
    except UsageError as error:
        raise SpecError([problem_from(error, where)]) from None
    if len(paths) > MAX_SAMPLES:
        raise SpecError([Problem(where, f"samples: {len(paths)} files match", FEWER)])
    samples: list[Sample] = []
    counts = Counter(path.name for path in paths)
    for path in paths:
        try:
            found = _labelled(tensors_from_file(path, case.dtype), inputs)
        except UsageError as error:
            problems.append(problem_from(error, where))
            continue
        if case.labels is not None and case.labels.file is None and found.pop(case.labels.key or "", None) is None:
            message = f"samples: {path.name}: no array {case.labels.key!r} with the label"
            problems.append(Problem(where, message, f"it holds {join_names(found)}"))
            continue
        inputs = inputs or found
        wrong = list(_mismatches(found, inputs, case))
        problems += (Problem(where, f"samples: {path.name}: {message}", remedy) for message, remedy in wrong)
        if not wrong:
            name = path.name if counts[path.name] == 1 else "/".join(path.parts[-2:])
            samples.append((name, tuple(_as(found[label], spec) for label, spec in inputs.items())))
    if problems:
        raise SpecError(problems)
    data = _data_settings(node, case, folder, len(samples))
    return inputs, tuple(samples if case.inputs or data is not None else samples[1:]), data


def _key_problems(node: Node, case: Case, folder: SpecFolder, *, allow_import: bool) -> Iterator[Problem]:
    """What is wrong with the keys that go with ``samples``."""
    for key in ("labels", "metric", "allowed_drop"):
        if getattr(case, key) is not None and case.samples is None:
            yield Problem(node.location([key], of_key=True), f"{key}: the case has no samples", "add `samples: data/`")
    if case.allowed_drop is not None and case.labels is None and case.metric is None:
        where = node.location(["allowed_drop"], of_key=True)
        yield Problem(where, "allowed_drop: nothing is measured that could drop", "add `labels:` or `metric:`")
    if case.metric is None:
        return
    if not allow_import:
        message = f"metric: {case.metric} would run code"
        yield Problem(node.location(["metric"]), message, "pass --allow-import to allow it")
        return
    try:
        factory_name(case.metric, folder)
    except UsageError as error:
        yield problem_from(error, node.location(["metric"]))


def _data_settings(node: Node, case: Case, folder: SpecFolder, count: int) -> DataSettings | None:
    """How so many samples are judged as a whole; None if each is judged by itself.

    Raises :class:`SpecError` for labels that cannot be read or are not one for each sample.
    """
    decides = case.tolerance is not None and case.tolerance.has(Decisions)
    if not (decides or case.labels or case.metric or count > WHOLE_SAMPLES):
        return None
    source = None
    if case.labels is not None and case.labels.file is not None:
        where = node.location(["labels"])
        try:
            path = folder.file(case.labels.file)
            stored = pick(stored_arrays(path), case.labels.key, path)
            source = FileSource(file_digest(path), case.labels.key, str(path.absolute()))
        except UsageError as error:
            raise SpecError([problem_from(error, where)]) from None
        if len(stored.shape) < 1 or stored.shape[0] != count:
            message = f"labels: {path.name} has shape {format_value(list(stored.shape))}, and there are {count} samples"
            raise SpecError([Problem(where, message, "give one label for each sample, in the order of their names")])
    key = case.labels.key if case.labels is not None and source is None else None
    metric = None if case.metric is None else factory_name(case.metric, folder)
    return DataSettings(source, key, metric, case.better, case.allowed_drop)


def _labelled(found: dict[str, TensorSpec], inputs: Inputs) -> dict[str, TensorSpec]:
    """``found`` under the labels of ``inputs``.

    The array without a name of a ``.npy`` file is the only input, those of a test data set are the inputs in order.
    ``input.1`` has the label ``input_1``.
    """
    if found.keys() == {UNNAMED} and len(inputs) <= 1:
        labels = {UNNAMED: next(iter(inputs), "x")}
    elif len(found) == len(inputs) and all(TEST_DATA_NAME.fullmatch(name) for name in found.keys() - inputs.keys()):
        labels = dict(zip(found, inputs, strict=True)) if found.keys().isdisjoint(inputs) else {}
    else:
        spelled = {as_label(label): label for label in inputs if label not in found}
        labels = {name: spelled[as_label(name)] for name in found if name not in inputs and as_label(name) in spelled}
        labels = labels if len(set(labels.values())) == len(labels) else {}
    return {labels.get(name, name): replace(spec, label=labels.get(name, name)) for name, spec in found.items()}


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
