"""Steps: a model whose outputs feed its inputs, called several times in a row.

A cache, a hidden state and the context of a stream are outputs that are inputs of the next call. The reference is run
step by step on its own state. A target is compared at each step twice. With the reference's state fed in (teacher
forcing), each step stands for itself: what fails there is wrong in one call. With the target's own state, errors add
up, as they do where the model is used.

The reference's answers decide the shapes, so a cache may grow. Random inputs that are no state are drawn anew at each
step. The float64 reference of the second comparison has followed its own state since the first step: it tells how far
the reference itself has drifted.

A module that keeps state by itself is called in a row too, at all its inputs (:func:`run_in_a_row`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.files.matching import match_outputs
from harness.check.files.signatures import read_file_signature
from harness.check.judging.example_values import about_equal
from harness.check.judging.judge import Answer, have_same_form
from harness.compare.verdict import Comparison
from harness.errors import UsageError
from harness.model.answer import Reference, Step
from harness.runtimes import Session
from harness.spec.language.case import Case, GraphModel, TensorSpec, seed_from_name
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.tensors import with_layout
from harness.spec.quoting import format_value, join_names, suggestion

Array = NDArray[Any]
Inputs = Mapping[str, Array]

CALLS_OF_EXPORTER = 6
"""A trace calls the module up to this many times, its own check included."""
ERRORS_ADD_UP = (
    "with the reference's state fed in, every step is within the tolerance: the errors of single steps are small, and "
    "they add up"
)


def with_steps(
    case: Case,
    specs: Sequence[TensorSpec],
    first: Reference,
    answer: Callable[[Inputs, str], Reference],
    float64: Callable[[Inputs], Mapping[str, Array] | None],
) -> tuple[Reference, ...]:
    """The reference's answers at every step, ``first`` being the first; only that one for a case without a loop.

    ``specs`` are the inputs of the first step. ``answer`` runs the reference, ``float64`` runs it in float64, on inputs
    of which some are float64 already. Raises :class:`UsageError` if an output does not exist, or does not fit the
    input that it feeds.
    """
    if not case.loop or first.stochastic:
        return (first,)
    loop = _resolved(case, first)
    references = [replace(first, step=Step(1, case.steps, loop, first.float64))]
    for number in range(2, case.steps + 1):
        previous = references[-1]
        assert previous.step is not None
        state = {label: previous.eager[output] for output, label in loop.items()}
        _require_fit(case, first, loop, state, number - 1)
        fresh = _drawn(case, specs, state, number)
        inputs = {label: state[label] if label in state else fresh[label] for label in first.inputs}
        wide = previous.step.float64
        if wide is not None:
            wide = float64({**inputs, **{label: wide[output] for output, label in loop.items() if output in wide}})
        at = f"step {number} of {case.steps}"
        try:
            reference = answer(inputs, at if first.at is None else f"{first.at}, {at}")
        except Exception as error:
            raise _refused_state(case, first, loop, state, number, error) from error
        step = Step(number, case.steps, loop, wide)
        references.append(replace(reference, step=step, repeats_shapes=True, second_call=None))
    return tuple(references)


def with_lower_steps(
    references: Sequence[Reference], lowered: Callable[[Reference], Reference]
) -> tuple[Reference, ...]:
    """``references`` with the answers of a run in lower precision, by ``lowered``, that follows its own state."""
    result: list[Reference] = []
    followed: Mapping[str, Array] | None = None
    for reference in references:
        step = reference.step
        with_lower = lowered(reference)
        if step is not None:
            own = with_lower
            if step.number > 1:
                state = {label: followed[output] for output, label in step.loop.items()} if followed else None
                own = reference if state is None else lowered(replace(reference, inputs={**reference.inputs, **state}))
            followed = own.lower
            with_lower = replace(with_lower, step=replace(step, lower=followed))
        result.append(with_lower)
    return tuple(result)


def run_on_own_state(
    references: Iterable[Reference], run: Callable[[Inputs], Answer]
) -> tuple[list[Reference], list[Answer]]:
    """The target's answers on its own state from the second step on, each with the reference that it is compared with.

    A target whose answer has another form than the reference's is not followed further.
    """
    compared: list[Reference] = []
    answers: list[Answer] = []
    state: dict[str, Array] | None = None
    for reference in references:
        step = reference.step
        if step is None:
            continue
        if step.number > 1 and state is None:
            continue
        outputs = run({**reference.inputs, **(state or {})} if step.number > 1 else reference.inputs)
        answer = reference.comparable_part(outputs)
        if step.number > 1:
            compared.append(reference.on_own_state())
            answers.append(answer)
        same_form = have_same_form(answer, reference.eager)
        state = {label: outputs[output] for output, label in step.loop.items()} if same_form else None
    return compared, answers


def run_in_a_row(
    references: Sequence[Reference], open_session: Callable[[], Session]
) -> tuple[list[Reference], list[Answer]]:
    """The answers of one new session to the inputs of all references in a row, and then to the first again.

    Each with the reference that it is compared with; none if eager torch carries nothing from one call to the next.
    """
    if not any(reference.after_others is not None for reference in references):
        return [], []
    sequence = inputs_in_a_row([reference.inputs for reference in references])
    session = open_session()
    try:
        answers = [session.run(inputs) for inputs in sequence]
    finally:
        session.close()
    compared = [(each, answer) for each, answer in zip(references, answers, strict=False) if each.after_others]
    compared = [*compared[1:], (references[0], answers[-1])] if references[0].after_others else compared
    return (
        [each.at_call_after_others() for each, _ in compared],
        [each.comparable_part(answer) for each, answer in compared],
    )


def inputs_in_a_row(sets: Sequence[Inputs]) -> list[Inputs]:
    """The sets of inputs, and the first again after the others; where there is one set, larger ones come before it."""
    first, *others = sets
    if others:
        return [first, *others, first]
    return [
        {
            label: values * values.dtype.type(-1.5) if values.dtype.kind == "f" else values
            for label, values in first.items()
        },
        first,
    ]


def loses_state(
    references: Sequence[Reference],
    answers: Sequence[Answer],
    failing: int,
    eager_answer: Callable[[Inputs, Sequence[Inputs]], Answer | None],
) -> bool:
    """True if a failing answer to a first call is one that eager torch gives at a later call.

    Then what the calls of an exporter left in the module was exported too. ``eager_answer`` gives the answer of eager
    torch after calls with further inputs.
    """
    first, reference = references[0], references[failing]
    if not first.keeps_state:
        return False
    rows = ([inputs] * count for inputs in (reference.inputs, first.inputs) for count in range(1, CALLS_OF_EXPORTER))
    later = (eager_answer(reference.inputs, before) for before in rows)
    return any(
        each is not None and about_equal(answers[failing], each) for each in chain([reference.second_call], later)
    )


def first_departures(comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    """``comparisons`` without the steps that follow one that departs: they only repeat it.

    Steps on the target's own state come last, and are left out if one departs with the reference's state fed in.
    """
    departed = False
    for comparison in comparisons:
        if comparison.step is not None and not comparison.passed:
            if departed:
                continue
            departed = True
        yield comparison


def departure(comparisons: Sequence[Comparison]) -> str | None:
    """Which step is the first that departs, on the reference's state and on the target's own; None if all agree."""
    steps: dict[bool, Step] = {}
    for comparison in comparisons:
        if comparison.step is not None and not comparison.passed:
            steps.setdefault(comparison.step.own_state, comparison.step)
    forced, own = steps.get(False), steps.get(True)
    if forced is None and own is None:
        return None
    if forced is None and own is not None:
        return (
            f"each of {own.of} steps agrees with the reference's state fed in, and on the target's own state step "
            f"{own.number} is the first that departs"
        )
    assert forced is not None
    also = f", and step {own.number} on the target's own state" if own is not None else ""
    return (
        f"of {forced.of} steps, step {forced.number} is the first that departs with the reference's state fed in{also}"
    )


def agreement(comparisons: Sequence[Comparison]) -> str | None:
    """The note on steps that all agree; None if one departs, or there are none."""
    steps = [comparison.step for comparison in comparisons if comparison.step is not None]
    if not steps or not all(comparison.passed for comparison in comparisons):
        return None
    return f"all of {steps[0].of} steps agree, with the reference's state fed in and on the target's own"


def step_rows(comparisons: Iterable[Comparison]) -> tuple[dict[str, Any], ...]:
    """A row for each step that was compared: its number, whose state was fed in, and the largest differences."""
    return tuple(
        {
            "step": comparison.step.number,
            "state": "own" if comparison.step.own_state else "reference",
            "at": comparison.at,
            "passed": comparison.passed,
            "max_abs": _largest(output.max_abs for output in comparison.outputs),
            "max_ulp": _largest(output.max_ulp for output in comparison.outputs),
            "shapes": [list(output.shape) for output in comparison.outputs],
        }
        for comparison in comparisons
        if comparison.step is not None
    )


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _resolved(case: Case, first: Reference) -> dict[str, str]:
    """The loop by the reference's own names of outputs. A name that holds several stands for each of them."""
    names = {name: name for name in first.eager}
    model = case.model.model
    paths = first.paths or (model.returns if isinstance(model, GraphModel) else ())
    names = {**names, **dict(zip(paths, first.eager, strict=False))}
    shown = list(paths or first.eager)
    in_files = _names_in_files(case, first)
    names = {**in_files, **names}
    loop: dict[str, str] = {}
    for output, label in case.loop.items():
        parts = (
            [""] if output in names else [name.removeprefix(output) for name in names if name.startswith(f"{output}.")]
        )
        if not parts:
            remedy = suggestion(output, [*shown, *in_files], f"the outputs are {join_names(shown)}")
            raise UsageError(f"loop: no output {output}; {remedy}")
        for part in parts:
            if label + part not in first.inputs:
                inputs = f"the inputs are {join_names(first.inputs)}"
                raise UsageError(f"loop: {output}{part} would feed {label}{part}, which is no input; {inputs}")
            loop[names[output + part]] = label + part
    return loop


def _names_in_files(case: Case, first: Reference) -> dict[str, str]:
    """The reference's outputs by the names that they have in the ONNX files under test."""
    names: dict[str, str] = {}
    for file in case.files.values():
        if file.format == "onnx" and (outputs := read_file_signature(file).outputs) is not None:
            declared = [each.name for each in outputs]
            pairs = match_outputs(declared, list(first.eager), file.path, first.paths).reference
            names |= {name: own for name, own in pairs.items() if own is not None}
    return names


def _require_fit(case: Case, first: Reference, loop: Mapping[str, str], state: Inputs, number: int) -> None:
    """Check that each output can be the input that it feeds: its dtype, and its sizes but for dynamic axes."""
    problems = []
    for output, label in loop.items():
        given, expected = state[label], first.inputs[label]
        form, wanted = (f"{each.dtype}{list(each.shape)}" for each in (given, expected))
        name = next((key for key, value in case.loop.items() if value == label), output)
        if given.dtype != expected.dtype or given.ndim != expected.ndim:
            problems.append(f"{name} is {form} after step {number}, and {label} takes {wanted}")
            continue
        axes = [
            axis for axis, sizes in enumerate(zip(given.shape, expected.shape, strict=True)) if sizes[0] != sizes[1]
        ]
        closed = [axis for axis in axes if axis not in case.dynamic.get(label, {})]
        if closed and not case.files:
            remedy = f"add `dynamic: {{{label}: {{{closed[0]}: P}}}}`"
            problems.append(f"{name} is {form} after step {number}, and {label} takes {wanted}; {remedy}")
    if problems:
        raise UsageError(f"loop: {'; '.join(problems)}")


def _refused_state(
    case: Case, first: Reference, loop: Mapping[str, str], state: Inputs, number: int, error: Exception
) -> Exception:
    """``error`` of the reference at a step, or what is wrong with the loop if its state has other sizes than before."""
    changed = [
        f"{next((key for key, value in case.loop.items() if value == label), output)} is {list(state[label].shape)} "
        f"and {label} was {list(first.inputs[label].shape)}"
        for output, label in loop.items()
        if state[label].shape != first.inputs[label].shape
    ]
    if not changed:
        return error
    return UsageError(f"loop: the reference refuses its state at step {number}: {'; '.join(changed)}")


def _drawn(case: Case, specs: Sequence[TensorSpec], state: Inputs, number: int) -> dict[str, Array]:
    """The inputs of a step that are no state. An axis takes the size that its name has in the state."""
    sizes = {
        name: state[label].shape[axis]
        for label, axes in case.dynamic.items()
        if label in state
        for axis, name in axes.items()
    }
    drawn = {}
    for spec in specs:
        if spec.label in state:
            continue
        names = case.dynamic.get(spec.label, {})
        shape = tuple(sizes.get(names.get(axis, ""), size) for axis, size in enumerate(spec.shape))
        if spec.is_literal and shape != spec.shape:
            raise UsageError(
                f"loop: {spec.label} has the values of {format_value(list(spec.shape))}, and step {number} takes "
                f"{format_value(list(shape))}; use `shape` and `fill` for it"
            )
        seed = seed_from_name(f"{spec.seed} step {number}") if spec.is_random else spec.seed
        each = replace(spec, shape=shape, seed=seed)
        drawn[spec.label] = np.asarray(with_layout(array(each), each.layout))
    return drawn
