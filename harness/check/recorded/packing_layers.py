"""Pack the layers of a model into a bundle, so that a machine without torch can make the layer table.

:mod:`harness.check.recorded.packed_layers` describes and reads what is written. The values of the file that belong to
the layers are found here, as for a layer table on this machine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.check.judging.layers import STOCHASTIC, both_insides
from harness.check.recorded.content_store import ContentStore
from harness.check.recorded.packed_layers import (
    CallEntry,
    Kind,
    LayersEntry,
    OperationEntry,
    PlaceEntry,
    ValueEntry,
    difference_from,
)
from harness.check.stages import Clock, StageStopped
from harness.exporters import Artifact
from harness.inside.calls import Array, Match, NotVisible, Pairing, Recording, ReferenceInside, ValueStore
from harness.model.answer import Reference
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import Target
from harness.spec.targets.sets import DEFAULT_RUNTIMES

if TYPE_CHECKING:
    from harness.check.case_context import CaseContext
    from harness.inside.program import Traced


def pack_layers(
    prepared: CaseContext, target: Target, artifact: Artifact, store: ContentStore, max_bytes: int, clock: Clock
) -> list[str]:
    """Write the layers of the case, as the file of ``target`` shows them; return the paths, one for each reference.

    The values take at most ``max_bytes``: those of the largest tensors are left out, and what is left out is listed.
    """
    paths: list[str] = []
    left = max_bytes
    for reference in prepared.references_for(target):
        with tempfile.TemporaryDirectory(prefix="harness-layers-") as folder:
            values = ValueStore(Path(folder))
            try:
                with clock.stage("compare"):
                    layers = _layers_of(prepared, _runnable_here(target, artifact), artifact, reference, values, left)
            except StageStopped as stop:
                layers = str(stop.message)
            keys = () if isinstance(layers, str) else dict.fromkeys(layers.keys())
            files = {key: store.put_array(values[key]) for key in keys}
        left = max(0, left - sum((store.folder / path).stat().st_size for path in {*files.values()}))
        entry = LayersEntry(reason=layers) if isinstance(layers, str) else layers.entry(files, max_bytes)
        text = json.dumps(entry.model_dump(exclude_defaults=True), indent=1) + "\n"
        paths.append(f"data/{sha256(text.encode()).hexdigest()[:32]}.json")
        store.put_text(paths[-1], text)
    return paths


@dataclass
class _Layers:
    """The layers of a reference, with the keys of the values that are packed.

    ``matches`` are the tensors that are packed, and ``exact`` has their float64 values.
    """

    recording: Recording
    matches: Mapping[int, Match]
    left_out: Sequence[int]
    exact: dict[Kind, dict[int, str]] = field(default_factory=lambda: {"alone": {}, "whole": {}})
    no_float64: dict[Kind, str] = field(default_factory=dict)
    traced: Traced | None = None

    def keys(self) -> Iterator[str]:
        """The keys of all values that are packed."""
        yield from (self.recording.keys[number] for number in self.matches)
        for keys in self.exact.values():
            yield from keys.values()

    def entry(self, files: Mapping[str, str], max_bytes: int) -> LayersEntry:
        """What the bundle holds; ``files`` has the path of each key."""
        recording = self.recording

        def exact(kind: Kind, number: int) -> str | None:
            return files[self.exact[kind][number]] if number in self.exact[kind] else None

        traced = self.traced
        return LayersEntry(
            calls=[
                CallEntry(
                    path=call.path,
                    type=call.type,
                    number=call.number,
                    arguments=call.arguments,
                    inputs=list(call.inputs),
                    outputs=list(call.outputs),
                )
                for call in recording.calls
            ],
            shapes=[list(recording.shape(number)) for number in range(len(recording.keys))],
            inputs=list(recording.inputs),
            results=list(recording.results),
            values=[
                ValueEntry(
                    number=number,
                    name=match.name,
                    how=match.how,
                    values=files[recording.keys[number]],
                    alone=exact("alone", number),
                    whole=exact("whole", number),
                )
                for number, match in sorted(self.matches.items())
            ],
            left_out=list(self.left_out),
            max_bytes=max_bytes,
            no_float64=self.no_float64,
            operations=[
                OperationEntry(name=each.name, shapes=[list(shape) for shape in each.shapes])
                for each in (() if traced is None else traced.operations)
            ],
            places=[
                PlaceEntry(number=number, operation=operation, output=output)
                for number, (operation, output) in (() if traced is None else traced.places.items())
                if number in self.matches
            ],
        )


def _runnable_here(target: Target, artifact: Artifact) -> Target:
    """``target``, or the file on another runtime if this machine does not have its own: the values have its names."""
    if plugins("runtimes")[target.runtime].availability().present:
        return target
    return replace(target, runtime=DEFAULT_RUNTIMES.get(artifact.format, target.runtime), options={})


def _layers_of(
    prepared: CaseContext, target: Target, artifact: Artifact, reference: Reference, values: ValueStore, max_bytes: int
) -> _Layers | str:
    """The layers with the values of the file that belong to them, or why there are none."""
    if reference.stochastic:
        return STOCHASTIC
    try:
        with ExitStack() as stack:

            def run() -> object:
                session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
                stack.callback(session.close)
                return session.run(reference.inputs)

            inside, subject = both_insides(prepared.reference_inside, target, artifact, reference, run, values)
            recording, pairing = inside.recording, subject.paired(inside.recording)
            kept, left_out = _fitting(recording, pairing, max_bytes)
            matches = {number: Match(pairing.names.get(number, ""), pairing.how[number]) for number in kept}
            layers = _Layers(recording, matches, left_out)
            traced: Callable[[Recording], Traced] | None = getattr(subject, "traced", None)
            layers.traced = None if traced is None else traced(recording)
    except NotVisible as reason:
        return str(reason)
    _keep_float64(inside, layers, values)
    return layers


def _fitting(recording: Recording, pairing: Pairing, max_bytes: int) -> tuple[list[int], list[int]]:
    """The tensors with a value in the file that fit into ``max_bytes``, the smallest first, and the others."""

    def size(number: int) -> int:
        values = recording.values(number)
        exact = 0 if values.dtype.kind not in "fV" else 4 if _is_finite(values) else 8
        return int(values.nbytes + 2 * exact * values.size)

    kept: list[int] = []
    for number in sorted(pairing.local, key=lambda each: (size(each), each)):
        max_bytes -= size(number)
        if max_bytes < 0:
            break
        kept.append(number)
    return sorted(kept), sorted(pairing.local.keys() - set(kept))


def _keep_float64(inside: ReferenceInside, layers: _Layers, values: ValueStore) -> None:
    """Keep the float64 values of the tensors that are packed, of each layer alone and of the whole model."""
    cuts: dict[Kind, frozenset[int]] = {"alone": frozenset(layers.matches), "whole": frozenset()}
    for kind, numbers in cuts.items():

        def visit(number: int, float64: Array, kept: dict[int, str] = layers.exact[kind]) -> None:
            own = layers.recording.values(number)
            if number in layers.matches and own.dtype.kind in "fV":
                kept[number] = values.put(difference_from(float64, own))

        try:
            inside.float64(numbers, visit)
        except NotVisible as problem:
            layers.no_float64[kind] = str(problem)


def _is_finite(values: Array) -> bool:
    return bool(np.isfinite(values.astype(np.float64)).all())
