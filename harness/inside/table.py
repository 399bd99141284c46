"""The layer table: every call of every layer of the reference, with the error of its part of the subject.

``local`` is the error of the layer's own part on the reference's inputs, ``accumulated`` as the value came out of the
subject, ``reference`` the error that the reference itself has accumulated. All are RMS errors against float64, as a
share of the RMS of the values. A fault is a step in ``local``; rounding alone is a slope in ``accumulated``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.compare.pictures import picture
from harness.inside.calls import Array, Call, NotVisible, Pairing, Recording, ReferenceInside, SubjectInside
from harness.inside.judging import Measured, measure, sentence
from harness.result import Blame, Layer

MAX_UNCOVERED = 200
"""The layers and nodes without a match that a result names; all of them are counted."""


MAX_PICTURES = 3
"""The wrong layers that have a picture, so that a report stays small: the first ones."""


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The ``layers`` in order of execution, what they show in one ``sentence``, and what they do not cover.

    ``blame`` is whose fault the first wrong layer is, with the ``evidence``; None if nothing decides.
    """

    layers: tuple[Layer, ...]
    sentence: str
    uncovered: tuple[str, ...]
    notes: tuple[str, ...] = ()
    blame: Blame | None = None
    evidence: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """True if a layer is wrong by itself."""
        return any(layer.wrong for layer in self.layers)


def layer_table(reference: ReferenceInside, subject: SubjectInside, *, passed: bool, judged: bool = True) -> LayerTable:
    """The table of ``subject``. ``passed``: its outputs agree. Without ``judged`` no layer is called wrong."""
    recording = reference.recording
    pairing = subject.paired(recording)
    notes: list[str] = [*reference.notes]
    exact: dict[int, Array] = {}
    local = _measured(reference, pairing.local, frozenset(pairing.local), notes, exact)
    accumulated = _measured(reference, pairing.accumulated, frozenset(), notes)
    behind = _judged_with(recording, pairing)
    pictures = _pictures(recording, pairing, local) if judged else {}
    layers = [
        _layer(recording, call, pairing, local, accumulated, behind, pictures, judged=judged)
        for call in recording.calls
        if not (call.is_functional and not set(call.outputs) & pairing.local.keys())
    ]
    uncovered = [
        f"{call.path or 'the model'} ({call.type})"
        for call in recording.calls
        if not call.is_functional
        and call.new_outputs
        and not set(call.new_outputs) & pairing.local.keys()
        and id(call) not in behind
    ]
    uncovered += [f"node {name}" for name in pairing.uncovered]
    if len(uncovered) > MAX_UNCOVERED:
        uncovered[MAX_UNCOVERED:] = [f"and {len(uncovered) - MAX_UNCOVERED} more"]
    blame, evidence = _blame(recording, subject, exact) if judged else (None, ())
    return LayerTable(
        tuple(layers),
        sentence(layers, passed=passed),
        tuple(uncovered),
        tuple(dict.fromkeys(notes)),
        blame,
        evidence,
    )


def _blame(
    recording: Recording, subject: SubjectInside, exact: Mapping[int, Array]
) -> tuple[Blame | None, tuple[str, ...]]:
    """Whose fault the first wrong tensor of ``exact`` is: the file's own evaluation in float64 decides."""
    number = next(iter(exact), None)
    if number is None:
        return None, ()
    if subject.is_program:
        return "exporter", ("torch runs the exported program, and gets other values from the reference's own inputs",)
    evaluated = subject.evaluated(number)
    if isinstance(evaluated, str):
        return None, (evaluated,)
    if evaluated.shape != exact[number].shape:
        return None, ()
    times = measure(evaluated, recording.values(number), exact[number]).times
    if times is None:
        return None, ()
    if times > 1:
        return "exporter", ("the layer's part of the file, evaluated in float64, is not what the layer computes",)
    right = "the layer's part of the file, evaluated in float64, is what the layer computes: the file is right"
    return None, (right,)  # a kernel or the optimizer of the runtime


def _measured(
    reference: ReferenceInside,
    keys: Mapping[int, str],
    cuts: frozenset[int],
    notes: list[str],
    exact: dict[int, Array] | None = None,
) -> dict[int, Measured]:
    """Each tensor measured against the float64 run with ``cuts``; against the reference where there is none.

    ``exact`` takes the float64 values of the first tensor that is wrong.
    """
    recording = reference.recording
    found: dict[int, Measured] = {}

    def visit(number: int, float64: Array) -> None:
        if number in keys:
            found[number] = measure(recording.store[keys[number]], recording.values(number), float64)
            if exact is not None and not exact and (found[number].times or 0.0) > 1:
                exact[number] = float64

    try:
        reference.float64(cuts, visit)
    except NotVisible as problem:
        notes.append(str(problem))
    for number, key in keys.items():
        if number not in found:
            found[number] = measure(recording.store[key], recording.values(number), None)
    return found


def _layer(
    recording: Recording,
    call: Call,
    pairing: Pairing,
    local: Mapping[int, Measured],
    accumulated: Mapping[int, Measured],
    behind: Mapping[int, str],
    pictures: Mapping[int, Mapping[str, Any]],
    *,
    judged: bool,
) -> Layer:
    numbers = [number for number in call.new_outputs if number in local]
    worst = max(numbers, key=lambda number: local[number].times or 0.0, default=None)
    shown = recording.shape((*call.outputs, *call.inputs)[0]) if call.outputs or call.inputs else ()
    layer = Layer(
        path=call.path,
        type=call.type,
        call=call.number,
        arguments=call.arguments,
        shape=shown,
        judged_with=behind.get(id(call)),
    )
    if worst is None:
        return layer
    own, whole = local[worst], accumulated[worst]
    nodes = dict.fromkeys(name for number in numbers for name in pairing.nodes.get(number, ()))
    seconds = [pairing.seconds[number] for number in numbers if number in pairing.seconds]
    return Layer(
        path=call.path,
        type=call.type,
        call=call.number,
        arguments=call.arguments,
        shape=recording.shape(worst),
        local=own.error,
        accumulated=whole.error,
        reference=whole.reference_error,
        sqnr=whole.sqnr,
        max_ulp=own.max_ulp,
        times=own.times if judged else None,
        wrong=judged and own.times is not None and own.times > 1,
        nonfinite=whole.nonfinite,
        nonfinite_new=whole.new,
        nonfinite_node=pairing.nonfinite.get(worst) if whole.new else None,
        nodes=tuple(nodes),
        seconds=sum(seconds) if seconds else None,
        value=pairing.names.get(worst),
        matched_by=pairing.how.get(worst),
        picture=pictures.get(worst),
    )


def _pictures(recording: Recording, pairing: Pairing, local: Mapping[int, Measured]) -> dict[int, Mapping[str, Any]]:
    """A picture of each of the first wrong tensors, beside the reference's."""
    wrong = sorted(number for number, each in local.items() if (each.times or 0.0) > 1)
    found = {}
    for number in wrong[:MAX_PICTURES]:
        expected = recording.values(number).astype(np.float64)
        actual = recording.store[pairing.local[number]].astype(np.float64)
        found[number] = picture(actual.reshape(expected.shape), expected, None)
    return found


def _judged_with(recording: Recording, pairing: Pairing) -> dict[int, str]:
    """For each call without a value of its own, what it is judged with: the layer that reads its output."""
    readers: dict[int, list[Call]] = {}
    for call in recording.calls:
        for number in call.inputs:
            readers.setdefault(number, []).append(call)
    found: dict[int, str] = {}
    for call in reversed(recording.calls):
        outputs = set(call.new_outputs)
        if not outputs:
            found[id(call)] = "nothing: it returns its input"
        elif not outputs & pairing.local.keys():
            following = [reader for number in outputs for reader in readers.get(number, ())]
            if following and all(
                set(each.new_outputs) & pairing.local.keys() or id(each) in found for each in following
            ):
                found[id(call)] = found.get(id(following[0])) or following[0].path or following[0].type
    return found
