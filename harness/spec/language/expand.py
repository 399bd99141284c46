"""Resolve a spec file to its cases: merge defaults, expand matrices, and check everything that needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod

from harness.errors import Location, Problem, SpecError, collect_problems
from harness.spec.language import expectations, layer_calls, models, schema
from harness.spec.language.case import Case, TensorSpec, seed_from_name
from harness.spec.language.data import SpecFolder
from harness.spec.language.inputs import files, tensors
from harness.spec.language.inputs import samples as samples_
from harness.spec.language.inputs.structure import flattened
from harness.spec.language.inputs.tensors import size_problems
from harness.spec.language.matrix import MAX_POINTS, points, with_defaults, without_keys
from harness.spec.language.schema import UNLABELED
from harness.spec.language.tolerances import CaseTolerance
from harness.spec.model_files import stored_model
from harness.spec.quoting import format_value, join_names, limited_comparisons, suggestion
from harness.spec.yaml.strict import validated
from harness.spec.yaml.tree import Node

Inputs = Mapping[str, TensorSpec]

MAX_VALUES = 5_000_000
NOTHING = Node(Location(""), None)


@limited_comparisons()
def expand(
    file: Node,
    stem: str,
    *,
    allow_import: bool = False,
    repeated_keys: Sequence[Problem] = (),
    folder: SpecFolder = SpecFolder(),  # noqa: B008 - frozen
) -> tuple[Case, ...]:
    """The file's cases, in its order; their ids begin with ``stem``. ``folder`` has the data files that they name.

    ``repeated_keys`` are those that the reader found. Raises :class:`SpecError` with every problem of the file,
    including them.
    """
    problems = [*repeated_keys]
    with collect_problems(problems):
        validated(schema.SpecFile, file)
    cases_node = file.child("cases")
    if cases_node is None or any(problem.where < cases_node.where for problem in problems):
        # Something that the cases share is wrong, so that only their names and layers can be checked.
        further = () if repeated_keys else _problems_of_invalid_file(file, cases_node or NOTHING)
        raise SpecError([*problems, *further])
    if problem := _too_many_values(file, cases_node):
        raise SpecError([*problems, problem])
    cases: list[Case] = []
    for node, following in zip_longest(cases_node.items, cases_node.items[1:]):
        if any(
            node.where < each.where and (following is None or each.where < following.where) for each in repeated_keys
        ):
            # It is unknown which value of a repeated key was meant, so this case cannot be checked.
            continue
        with collect_problems(problems):
            if problems:
                _check_case_alone(file, node, problems)
            for point in points(with_defaults(file, node)):
                with collect_problems(problems):
                    case_id = f"{stem}/{_case_name(node)}{point.suffix}"
                    cases.append(resolve_case(point.case, case_id, folder, allow_import=allow_import))
    problems += _repeated_names(cases_node)
    if problems:
        raise SpecError(problems)
    return tuple(cases)


def _problems_of_invalid_file(file: Node, cases: Node) -> Iterator[Problem]:
    """What is wrong with the cases of a file whose defaults or model are invalid, as far as it can be told."""
    defaults = file.child("defaults")
    if defaults is None or defaults.entries:
        for case in cases.items:
            if case.entries and case.child("matrix") is None:
                yield from layer_calls.call_problems(with_defaults(file, case))
    yield from _repeated_names(cases)


def _too_many_values(file: Node, cases: Node) -> Problem | None:
    """The case at which the cases, each with its defaults and for every matrix point, exceed :data:`MAX_VALUES`.

    Without this bound, a file of a few kilobytes could expand to terabytes.
    """
    total, shared = 0, file.size() - cases.size()
    for case in cases.items:
        axes = [axis for axis in (case.child("matrix") or NOTHING).entries.values() if axis.items]
        point_count = min(prod(len(axis.items) for axis in axes), MAX_POINTS)
        values_per_point = sum(axis.size() // len(axis.items) for axis in axes)
        total += point_count * (shared + without_keys(case, {"matrix", "exclude"}).size() + values_per_point)
        if total > MAX_VALUES:
            message = f"more than {MAX_VALUES} values, with defaults and matrices written out"
            return Problem(case.where, message, "generate large tensors with `fill`, or split the file")
    return None


def _check_case_alone(file: Node, case: Node, problems: list[Problem]) -> None:
    """Validate one case of a file that already has problems.

    Raises :class:`SpecError` if the case itself is invalid, after adding what is wrong with its layers to ``problems``.
    """
    try:
        validated(schema.Case, case)
    except SpecError:
        if case.entries and case.child("matrix") is None:
            problems += layer_calls.call_problems(with_defaults(file, case))
        raise


def _repeated_names(cases: Node) -> Iterator[Problem]:
    """Names that more than one case of the file has."""
    first_locations: dict[str, Location] = {}
    for node in cases.items:
        name, where = _case_name(node), node.location(["name"])
        if name in first_locations:
            message = f"name: {name} is already the name of the case on line {first_locations[name].line}"
            yield Problem(where, message, "give each case its own name")
        else:
            first_locations[name] = where


def _case_name(case: Node) -> str:
    """The name of a case; its location if it has none, so that no two are equal."""
    name = case.child("name")
    return str(case.where if name is None else name.value)


def resolve_case(node: Node, case_id: str, folder: SpecFolder, *, allow_import: bool = False) -> Case:
    """The case at ``node``, fully resolved. Raises :class:`SpecError` with every problem of the case."""
    nested = without_keys(node, {"matrix", "exclude"})
    validated(schema.Case, nested)
    problems: list[Problem] = []
    node, structure = flattened(nested, problems)
    case = validated(schema.Case, node)
    seed_name = case_id if case.seed is None else f"seed {case.seed}"
    may_raise = case.expect.raises is not None
    problems += [*layer_calls.call_problems(node), *_input_problems(node, case, folder)]
    inputs: Inputs = {}
    samples: tuple[samples_.Sample, ...] = ()
    data = None
    if not problems:
        inputs = {
            label: tensors.tensor_spec(label, each, case.dtype, seed_name, folder)
            for label, each in case.tensors.items()
        }
        with collect_problems(problems):
            inputs, samples, data = samples_.with_samples(node, case, inputs, folder, allow_import=allow_import)
    # How a layer takes nested inputs is left to torch.
    labels = [] if structure is not None else list(inputs or case.inputs)
    if structure is not None and case.layer is None and case.factory is None and case.file is None:
        message, remedy = "nested or null inputs of a model of several layers", "use `layer:` or `factory:`"
        problems.append(Problem(node.location(["inputs"], of_key=True), message, remedy))
    problems += models.problems(node, case, labels, case.dtype, folder, allow_import=allow_import, may_raise=may_raise)
    problems += files.file_problems(node, case, folder, allow_import=allow_import)
    problems += expectations.problems(node, case, folder, labels, allow_import=allow_import)
    if problems:
        raise SpecError(problems)
    if problems := [*_further_shape_problems(node, case, inputs), *_loop_problems(node, case, inputs)]:
        raise SpecError(problems)
    return Case(
        id=case_id,
        about=case.about,
        model=models.weighted_model(case, case.dtype, seed_name, folder),
        inputs=tuple(inputs.values()),
        where=node.where,
        mode=case.mode,
        dtype=case.dtype,
        expect=expectations.expectation(case, seed_name, folder),
        tolerance=case.tolerance or CaseTolerance(),
        seed=seed_from_name(case_id) if case.seed is None else case.seed,
        dynamic=case.dynamic,
        also=tuple(_by_label(shapes, inputs) for shapes in case.also),
        bench=tuple(_by_label(shapes, inputs) for shapes in case.bench),
        draws=case.draws,
        samples=samples,
        data=data,
        files={name: stored_model(folder.file(text)) for name, text in case.files.items()},
        targets=tuple(case.targets),
        structure=structure,
        count=case.count,
        loop=case.loop,
        steps=(case.steps or schema.DEFAULT_STEPS) if case.loop else 1,
    )


def _loop_problems(node: Node, case: schema.Case, inputs: Inputs) -> Iterator[Problem]:
    """The problems of ``loop`` and ``steps``. The outputs of most models are known only when they are run."""
    if case.steps is not None and not case.loop:
        where = node.location(["steps"], of_key=True)
        yield Problem(where, "steps: no output feeds an input", "add `loop: {OUTPUT: INPUT}`")
    if case.loop and case.expect.raises is not None:
        where = node.location(["loop"], of_key=True)
        yield Problem(where, "loop: not allowed with `expect.raises`", "write a case without it")
    known = [*(case.returns or ()), *(f"output_{index}" for index in range(len(case.returns or ())))]
    fed: set[str] = set()
    for output, label in case.loop.items():
        where = node.location(["loop", output])
        if label not in inputs and not any(each.startswith(f"{label}.") for each in inputs):
            remedy = suggestion(label, inputs, f"its inputs are {join_names(inputs)}")
            yield Problem(where, f"loop: no input {label}", remedy)
        elif label in fed:
            yield Problem(where, f"loop: two outputs feed {label}", "name each input once")
        fed.add(label)
        if known and output not in known:
            remedy = suggestion(output, known, f"its outputs are {join_names(case.returns or ())}")
            where = node.location(["loop", output], of_key=True)
            yield Problem(where, f"loop: no output {output}", remedy)


def _by_label(shapes: Mapping[str, list[int]], inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """Shapes by label; a shape without a label belongs to the only input."""
    return {label or next(iter(inputs)): tuple(shape) for label, shape in shapes.items()}


def _input_problems(node: Node, case: schema.Case, folder: SpecFolder) -> Iterator[Problem]:
    if not case.tensors and case.samples is None:
        yield Problem(node.where, "the case has no inputs", "add `inputs: {x: {shape: [2, 3]}}`")
    inputs_node = node.child("inputs") or node
    for label, tensor in case.tensors.items():
        yield from tensors.problems(inputs_node.child(label) or inputs_node, tensor, case.dtype, folder)


def _further_shape_problems(node: Node, case: schema.Case, inputs: Inputs) -> Iterator[Problem]:
    """The problems of ``dynamic``, ``also`` and ``bench`` of the case at ``node``."""
    for label, axes in case.dynamic.items():
        if label not in inputs:
            remedy = suggestion(label, inputs, f"its inputs are {join_names(inputs)}")
            yield Problem(node.location(["dynamic", label], of_key=True), f"dynamic: no input {label}", remedy)
            continue
        rank = len(inputs[label].shape)
        for axis in axes:
            if axis >= rank:
                message = f"dynamic: {label} has no axis {axis}"
                remedy = f"its axes are 0 to {rank - 1}" if rank else "it has no axes"
                yield Problem(node.location(["dynamic", label, axis], of_key=True), message, remedy)
    yield from _contradicting_axes(node, case, inputs)
    if case.also and not case.dynamic:
        message = "also: the case has no dynamic axis"
        yield Problem(node.location(["also"], of_key=True), message, "add `dynamic: {x: {0: N}}`")
    for key, shape_sets in (("also", case.also), ("bench", case.bench)):
        for index, shapes in enumerate(shape_sets):
            yield from _shape_problems(node, inputs, (key, index), shapes)
    if case.dynamic:
        for index, shapes in enumerate(case.also):
            yield from _axis_problems(node, case, inputs, index, shapes)


def _contradicting_axes(node: Node, case: schema.Case, inputs: Inputs) -> Iterator[Problem]:
    """Dynamic axes of one name that have several sizes in the case's own inputs."""
    first: dict[str, tuple[int, str]] = {}
    for label, axes in case.dynamic.items():
        shape = inputs[label].shape if label in inputs else ()
        for axis, name in axes.items():
            if axis < len(shape):
                size, other = first.setdefault(name, (shape[axis], label))
                if size != shape[axis]:
                    message = f"dynamic: axis {name} is {size} in {other} and {shape[axis]} in {label}"
                    yield Problem(node.location(["dynamic", label, axis]), message, "give each size its own name")


def _shape_problems(
    node: Node, inputs: Inputs, path: tuple[str, int], shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    for label, shape in shapes.items():
        where = node.location([*path, label])
        if label == UNLABELED and len(inputs) != 1:
            message = f"{path[0]}: a shape without a label, and the case has {len(inputs)} inputs"
            yield Problem(where, message, "write {label: [sizes]}")
        elif label != UNLABELED and label not in inputs:
            remedy = suggestion(label, inputs, f"its inputs are {join_names(inputs)}")
            yield Problem(node.location([*path, label], of_key=True), f"{path[0]}: no input {label}", remedy)
        else:
            yield from size_problems(where, shape)
            name = label or next(iter(inputs))
            if inputs[name].is_literal and tuple(shape) != inputs[name].shape:
                message = f"{path[0]}: {name} has literal values, so it has only one shape"
                yield Problem(where, message, "use `shape` and `fill` for it")


def _axis_problems(
    node: Node, case: schema.Case, inputs: Inputs, index: int, shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    """Sizes that a graph with these dynamic axes cannot take: another size of a static axis, or one name twice."""
    sizes: dict[str, int] = {}
    by_label = _by_label(shapes, inputs)
    for label, spec in inputs.items():
        shape = by_label.get(label, spec.shape)
        where = node.location(["also", index, label])
        if len(shape) != len(spec.shape):
            message = f"also: {format_value(shape)} has {len(shape)} axes, and {label} has {len(spec.shape)}"
            yield Problem(where, message, f"write {len(spec.shape)} sizes, as in inputs")
            continue
        for axis, (size, original) in enumerate(zip(shape, spec.shape, strict=True)):
            name = case.dynamic.get(label, {}).get(axis)
            if name is None and size != original:
                message = f"also: axis {axis} of {label} is not dynamic, and {size} is not {original}"
                yield Problem(where, message, f"add it to `dynamic:`, or keep {original}")
            elif name is not None and sizes.setdefault(name, size) != size:
                message = f"also: axis {name} has size {sizes[name]} and size {size}"
                yield Problem(where, message, "use one size for each name")
