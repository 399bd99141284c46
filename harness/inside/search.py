"""Which values of an ONNX graph belong to which tensors of the reference.

In this order, each tensor and each value at most once:

1. by scope: the values that leave the nodes which the exporter wrote for a layer, and those that enter them;
2. by name, if the reference is a graph itself, and the values are as close as rounding allows;
3. by value: the same shape, and as close, in the graph's order;
4. by name alone;
5. by place: behind a layer that is wrong nothing is close any more. Its value is the one from which on, if it is
   replaced by the reference's tensor, the layers that follow agree again.

A scope or a name alone is a hypothesis, which :mod:`harness.inside.doubts` tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from harness.data_files.onnx_files import names_read
from harness.inside.calls import CLOSE_IF_QUANTIZED, Call, Closeness, Recording, ValueStore
from harness.inside.graph import Graph, nodes_by_call
from harness.inside.nodes.matching import FOLDED_CLASSES

Array = NDArray[Any]

BY_SCOPE, BY_NAME, BY_VALUE = "scope", "name", "value"
BY_PLACE = "place: what follows it agrees"
AS_RESULT = "output of the model"

RECENT = 3
CANDIDATES, FOLLOWING, NEXT_CALLS = 12, 40, 4
"""The values that may be a layer's place, those behind each that are looked at, and the calls that are looked for."""


class Search:
    """The search for pairs: ``names`` has the value of each tensor."""

    def __init__(
        self, recording: Recording, graph: Graph, store: ValueStore, accumulated: Mapping[str, str], *, exported: bool
    ) -> None:
        self._recording, self._graph, self._store = recording, graph, store
        self._accumulated, self._exported = accumulated, exported
        self.names: dict[int, str] = {}
        self.how: dict[int, str] = {}
        self._inputs = dict(zip(recording.inputs, graph.inputs, strict=False))
        self._used: set[str] = set()
        self._with_nodes: set[int] = set()
        self._closeness = Closeness(store, CLOSE_IF_QUANTIZED if graph.quantizes else 0.0)
        self._tried: set[int] = set()
        self._folded: set[int] = set()
        self._makers = recording.makers()
        self._functional = {number for call in recording.calls if call.is_functional for number in call.outputs}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.nodes:
            for name in names_read(node):
                self._readers[name].append(node)

    @property
    def forced(self) -> dict[str, str]:
        """The keys of the tensors that values are forced to, by name."""
        return {name: self.as_read(number, name) for number, name in self.names.items()}

    @property
    def has_unmatched(self) -> bool:
        """True if a tensor has no value yet and is not inside a group of layers that were folded into one."""
        return bool(self._unmatched())

    def by_scope(self) -> None:
        """Match what leaves and enters the nodes of each layer."""
        layers = [call for call in self._recording.calls if not call.is_functional]
        calls_with_nodes = nodes_by_call(self._graph, layers)
        self._with_nodes = {id(call) for call, _ in calls_with_nodes}
        for call, nodes in calls_with_nodes:
            self._match_outputs(call, nodes)
        for call in layers:
            self._move_to_folded(call)
        for call, nodes in calls_with_nodes:
            self._match_inputs(call, nodes)

    def by_name(self, *, if_close: bool = False) -> None:
        """Match tensors that have the name of a value, of the same shape; with ``if_close`` only if they are close."""
        for number, name in enumerate(self._recording.names):
            if not name or number in self.names or not self.is_free(name) or not self.fits(number, name):
                continue
            if not if_close or self._is_close(number, self._accumulated[name]):
                self.pair(number, name, BY_NAME)

    def by_result(self, *, by_shape: bool = False) -> None:
        """Match the reference's results with the graph's outputs; with ``by_shape`` also the only one of its shape."""
        if len(self._recording.results) != len(self._graph.outputs):
            return
        pairs = [
            (number, name)
            for number, name in zip(self._recording.results, self._graph.outputs, strict=True)
            if number not in self.names and name not in self._used and name in self._accumulated
        ]
        for number, name in pairs:
            if not self.fits(number, name):
                continue
            alone = by_shape and sum(self.fits(number, each) or self.fits(other, name) for other, each in pairs) == 1
            if self._exported or alone or self._is_close(number, self._accumulated[name]):
                self.pair(number, name, AS_RESULT)

    def by_value(self, values: Mapping[str, str]) -> None:
        """Match each tensor that is left with the first value that is close to it."""
        for number in self._unmatched():
            close = [name for name in values if self._may_be(number, name, values[name])]
            if len(close) > 1:  # a tiny branch changes nothing visible: the next block may look the same
                close = [each for each in close if not self._is_behind(each, close)]
            name = min(close, key=lambda each: self._distance(number, values[each]), default=None)
            if name is not None and not self._is_rather_the_follower(number, values[name]):
                self.pair(number, name, BY_VALUE)

    def by_place(self, trials: int) -> int:
        """Match the first tensor whose place is known by what follows it; the number of trials that it took."""
        taken = 0
        for at, call in enumerate(self._recording.calls):
            (*_, number) = call.new_outputs or (None,)
            if number is None or number in self.names or number in self._tried or number in self._folded:
                continue
            begins = self._made_from(at, call)
            if not begins:
                continue
            self._tried.add(number)
            later = self._recording.calls[at + 1 :]
            reading = [n for each in later if number in each.inputs for n in each.new_outputs]
            following = list(dict.fromkeys([*reading, *(n for each in later for n in each.new_outputs)]))[:NEXT_CALLS]
            for name in self._places(begins, number):
                if taken >= trials:
                    return taken
                taken += 1
                if self._agrees_behind(number, name, following):
                    self.pair(number, name, BY_PLACE)
                    return taken
        return taken

    def _made_from(self, at: int, call: Call) -> list[str]:
        """The values that a call begins with; those matched last before functions, whose inputs are not recorded."""
        if not call.is_functional:
            return self._read_by(call)
        before = [n for earlier in self._recording.calls[:at] for n in earlier.new_outputs if n in self.names]
        return [self.names[each] for each in before[-RECENT:]]

    def _places(self, begins: Sequence[str], number: int) -> Iterator[str]:
        """The values that may be a tensor: behind those that it is made from, not behind another matched value."""
        reached = set(begins)
        follower = self._follower(number)
        before = [self.names[each] for each in (() if follower is None else follower.outputs) if each in self.names]
        nodes = self._graph.nodes_behind(before, self.forced) if before else self._graph.nodes
        candidates = 0
        for node in nodes:
            if not reached.intersection(names_read(node)):
                continue
            for name in node.output:
                if name in self._used:
                    continue
                reached.add(name)
                if name in self._accumulated and self.fits(number, name):
                    yield name
                    candidates += 1
            if candidates >= CANDIDATES:
                return

    def _read_by(self, call: Call) -> list[str]:
        """The values that a layer begins with, through layers before it that have none; none if one is not known."""
        begins = []
        for number in call.inputs:
            name = self.names.get(number) or self._inputs.get(number)
            maker = self._makers.get(number)
            names = [name] if name is not None else [] if maker is None else self._read_by(maker)
            if not names:
                return []
            begins += names
        return begins

    def _agrees_behind(self, number: int, name: str, following: Sequence[int]) -> bool:
        """Whether a tensor that follows agrees once ``name`` has the values of ``number``.

        It must depend on ``name``: with other values it must not agree.
        """
        start = self._graph.positions[name]
        free = [each for each in self._graph.visible if self._graph.positions[each] > start and each not in self._used][
            :FOLLOWING
        ]
        matched = [each for each in following if each in self.names]
        wanted = [*free, *(self.names[each] for each in matched)]
        if not wanted:
            return False
        forced = {**self.forced, name: self.as_read(number, name)}
        values = self._graph.run(wanted, forced)
        close = [(each, self.names[each]) for each in matched if self._is_close(each, values[self.names[each]])]
        unmatched = [each for each in following if each not in self.names]
        close += [(each, other) for each in unmatched for other in free if self._may_be(each, other, values[other])]
        if not close:
            return False
        rolled = self._store.put(np.roll(self._store[forced[name]].reshape(-1), 1).reshape(self._fitting_shape(name)))
        others = self._graph.run([other for _, other in close], {**forced, name: rolled})
        return any(not self._is_close(each, others[other]) for each, other in close)

    def _is_behind(self, name: str, others: Sequence[str]) -> bool:
        """Whether one of ``others`` is computed on the way to ``name``."""
        computed = {each for node in self._graph.nodes_behind([name], self.forced) for each in node.output}
        return any(other in computed for other in others if other != name)

    def _fitting_shape(self, name: str) -> tuple[int, ...]:
        return self._store[self._accumulated[name]].shape

    def _match_outputs(self, call: Call, nodes: Sequence[NodeProto]) -> None:
        node_ids = {id(node) for node in nodes}
        results = set(self._graph.outputs)
        leaving = [
            name
            for node in nodes
            for name in node.output
            if name in self._accumulated
            and (name in results or any(id(reader) not in node_ids for reader in self._readers[name]))
        ]
        # An input that the layer converts to its own dtype: what follows may read the copy, as T5's residuals do.
        inside = {name for node in nodes for name in node.output}
        passed = {
            name
            for node in nodes
            if node.op_type in {"Cast", "Identity"} and inside.isdisjoint(node.input)
            for name in node.output
        }
        for number in call.new_outputs:
            if number in self.names:
                continue
            fitting = [name for name in leaving if name not in self._used and self.fits(number, name)]
            close = [name for name in fitting if self._is_close(number, self._accumulated[name])]
            made = [name for name in fitting if name not in passed]
            for name in (close or made or fitting)[:1]:
                self.pair(number, name, BY_SCOPE)

    def _move_to_folded(self, call: Call) -> None:
        """Let a layer without nodes that follows ``call`` have its value, if it is folded into the nodes of ``call``.

        That is a batch normalization, whose weights are folded into those of a convolution, or a layer whose output
        the value is.
        """
        (*_, number) = call.new_outputs or (None,)
        while number is not None and number in self.names:
            name = self.names[number]
            follower = self._follower(number)
            if follower is None or id(follower) in self._with_nodes or len(follower.new_outputs) != 1:
                return
            (next_number,) = follower.new_outputs
            if next_number in self.names or not self.fits(next_number, name):
                return
            if follower.type not in FOLDED_CLASSES and not self._is_rather_the_follower(
                number, self._accumulated[name]
            ):
                return
            self.drop(number)
            self._folded.add(number)
            self.pair(next_number, name, f"{BY_SCOPE}: {follower.type} is folded into the layer before it")
            number = next_number

    def _follower(self, number: int) -> Call | None:
        """The only layer that reads a tensor."""
        readers = [call for call in self._recording.calls if number in call.inputs]
        return readers[0] if len(readers) == 1 and number not in self._recording.results else None

    def _match_inputs(self, call: Call, nodes: Sequence[NodeProto]) -> None:
        """Match what functions compute for a layer with what its nodes read."""
        made = {name for node in nodes for name in node.output}
        entering = dict.fromkeys(
            name for node in nodes for name in names_read(node) if name not in made and name in self._accumulated
        )
        for number in dict.fromkeys(call.inputs):
            if number in self.names or number not in self._functional:
                continue
            fitting = [name for name in entering if name not in self._used and self.fits(number, name)]
            close = [name for name in fitting if self._is_close(number, self._accumulated[name])]
            if close or len(fitting) == 1:
                self.pair(number, (close or fitting)[0], BY_SCOPE)

    def _unmatched(self) -> list[int]:
        return [
            number
            for call in self._recording.calls
            for number in call.new_outputs
            if number not in self.names and number not in self._folded and self._is_distinctive(number)
        ]

    def _is_distinctive(self, number: int) -> bool:
        """Whether the values of a tensor distinguish it from others: floating and not all the same."""
        values = self._recording.values(number)
        return (
            values.dtype.kind in "fV" and values.size > 1 and self._closeness.spread(self._recording.keys[number]) > 0
        )

    def pair(self, number: int, name: str, how: str) -> None:
        """Let a tensor have a value."""
        self.names[number], self.how[number] = name, how
        self._used.add(name)

    def drop(self, number: int) -> None:
        """Take its value from a tensor."""
        self._used.discard(self.names.pop(number))

    def is_free(self, name: str) -> bool:
        """Whether a value is known and belongs to no tensor."""
        return name in self._accumulated and name not in self._used

    def fits(self, number: int, name: str) -> bool:
        """Whether a value has the shape of a tensor, and is of the same kind."""
        values, expected = self._store[self._accumulated[name]], self._recording.values(number)
        return values.shape == expected.shape and _kind(values) == _kind(expected)

    def _may_be(self, number: int, name: str, key: str) -> bool:
        return name not in self._used and self.fits(number, name) and self._is_close(number, key)

    def _is_rather_the_follower(self, number: int, key: str) -> bool:
        """Whether a value is nearer to what the next layer makes of a tensor: the two are folded into one.

        A batch normalization with fresh statistics is nearly the identity, so that both are close.
        """
        follower = self._follower(number)
        if follower is None or len(follower.new_outputs) != 1:
            return False
        (following,) = follower.new_outputs
        if following in self.names or self._recording.values(following).shape != self._recording.values(number).shape:
            return False
        return self._distance(following, key) < self._distance(number, key)

    def _distance(self, number: int, key: str) -> float:
        return self._closeness.distance(key, self._recording.keys[number])

    def _is_close(self, number: int, key: str) -> bool:
        return self._closeness.are_close(key, self._recording.keys[number])

    def as_read(self, number: int, name: str) -> str:
        """The key of a tensor in the dtype of the value that it replaces."""
        return self._graph.as_read(self._recording.keys[number], self._accumulated[name])


def _kind(values: Array) -> str:
    return "f" if values.dtype.kind in "fV" else "i" if values.dtype.kind in "iu" else values.dtype.kind
