"""Which pairs of a search are refuted by what follows them.

A scope or a name is a hypothesis. The value of a file has the name of a layer's output, but a scale that followed may
be folded into the layer, or another formula may compute the same answer. Four cases look alike at the value alone: it
is not the reference's. They differ in what follows, in two runs of the same part of the file: once with the reference's
tensor in the value's place, once with the value as the file computes it.

=================================  ====================  ==================
the value                          with the reference's  with its own
=================================  ====================  ==================
is wrong                           agrees                is wrong
is wrong, hidden by a small scale  agrees                agrees
has a scale folded into it         is wrong              agrees
belongs to another formula         is wrong              agrees
=================================  ====================  ==================

So a pair is dropped if what follows is wrong with the reference's tensor and agrees without it: the value is another
quantity, and says nothing about the layer. It then belongs to the layer behind, if what follows agrees with that one's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from harness.data_files.onnx_files import names_read
from harness.inside.calls import CLOSE_IF_QUANTIZED, Closeness, Recording, ValueStore
from harness.inside.graph import Graph
from harness.inside.search import BY_NAME, BY_PLACE, BY_SCOPE, BY_VALUE, Search

MAX_TRIALS = 60
"""Runs of small parts of the graph."""
MAX_DEPTH = 6
"""The matched values, one behind the other, of which one may be what makes a value wrong that follows them."""
BETTER = 4.0
"""What follows must be as many times closer to the reference, where it does not agree but for rounding."""
SIMILAR = 0.3
"""The RMS difference, as a share, up to which a value may be a wrong one of the layer behind."""


class Doubts:
    """The doubts about the pairs of ``search``; ``accumulated`` are the values as they came."""

    def __init__(
        self, search: Search, recording: Recording, graph: Graph, store: ValueStore, accumulated: Mapping[str, str]
    ) -> None:
        self._search, self._recording, self._graph, self._accumulated = search, recording, graph, accumulated
        self._closeness = Closeness(store, CLOSE_IF_QUANTIZED if graph.quantizes else 0.0)
        self._trials = MAX_TRIALS
        self._forced = search.forced

    def settle(self, local: Mapping[str, str]) -> bool:
        """Drop the pairs that are refuted by ``local``, the values by themselves; True if pairs changed."""
        differing = self._differing(local)
        hypotheses = [number for number in differing if self._is_hypothesis(number)]
        if not hypotheses or (len(differing) == 1 and not self._graph.quantizes):
            return False
        before = dict(self._search.names)
        if self._graph.quantizes:
            for number in hypotheses[:MAX_TRIALS]:
                self._move_behind_rounding(number)
            return self._search.names != before
        if any(self._recording.names):
            self._match_anew(hypotheses)
        if self._search.names != before:
            differing = self._differing(self._graph.run(list(self._forced), self._forced))
        self._refute(differing)
        return self._search.names != before

    def _move_behind_rounding(self, number: int) -> None:
        """Let a tensor have the value behind its rounding to a grid if that is closer.

        A clamp at 0 is left to the rounding: the value before it has the name of the one behind it.
        """
        name, expected = self._search.names[number], self._recording.keys[number]
        behind = next(iter(self._read_by("DequantizeLinear", self._read_by("QuantizeLinear", [name]))), "")
        if not self._search.is_free(behind) or not self._search.fits(number, behind):
            return
        values = self._graph.run([name, behind], {each: key for each, key in self._forced.items() if each != name})
        if self._closeness.difference(values[behind], expected) < self._closeness.difference(values[name], expected):
            self._search.drop(number)
            self._search.pair(number, behind, BY_VALUE)
            self._forced = self._search.forced

    def _read_by(self, operator: str, names: Collection[str]) -> list[str]:
        """The outputs of the nodes of an operator that read ``names`` first."""
        readers = [node for node in self._graph.nodes if node.op_type == operator and node.input[0] in names]
        return [node.output[0] for node in readers]

    def _differing(self, values: Mapping[str, str]) -> list[int]:
        """The tensors whose values are not the reference's, in the graph's order."""
        names = self._search.names
        found = [n for n, name in names.items() if name in values and not self._agrees(n, values[name])]
        return sorted(found, key=lambda number: self._graph.positions[names[number]])

    def _is_hypothesis(self, number: int) -> bool:
        return self._search.how[number].startswith((BY_SCOPE, BY_NAME))

    def _match_anew(self, hypotheses: Sequence[int]) -> None:
        """Search again by value without ``hypotheses``, which come back where nothing better is found."""
        search = self._search
        pairs = {number: (search.names[number], search.how[number]) for number in hypotheses}
        for number in pairs:
            search.drop(number)
        values = self._graph.run(self._graph.visible, search.forced)

        def restore(numbers: Collection[int]) -> None:
            for number in numbers:
                name, how = pairs[number]
                if number not in search.names and search.is_free(name):
                    search.pair(number, name, how)

        restore([number for number, (name, _) in pairs.items() if self._agrees(number, values[name])])
        search.by_value(values)
        restore(pairs)
        self._forced = search.forced

    def _refute(self, differing: Sequence[int]) -> None:
        """Drop each pair that makes one of ``differing`` wrong; at first what is known to agree as it came."""
        names = self._search.names
        agreeing = [number for number in differing if self._agrees(number, self._accumulated[names[number]])]
        others = [number for number in differing if number not in agreeing]
        for number in (*agreeing, *others):
            if self._trials > 0 and number in names:
                self._refute_before(number)

    def _refute_before(self, number: int) -> None:
        """Drop the pairs that are the reason why a tensor is wrong by itself."""
        wrong, rounding = self._error(number, ())
        if wrong <= rounding:
            return
        for ways in self._ways(number):
            if self._is_better(number, ways, wrong):
                break
        else:
            return
        reasons = set(ways)
        for name in ways:  # only those that what follows does not agree with
            if len(reasons) > 1 and self._is_better(number, reasons - {name}, wrong):
                reasons.remove(name)
        numbers = {name: each for each, name in self._search.names.items()}
        for name in ways:
            if name in reasons:
                self._drop(numbers[name], name, number, wrong)

    def _drop(self, number: int, name: str, follower: int, wrong: float) -> None:
        """Drop a pair; let the layer behind have the value if ``follower`` agrees with that one's tensor."""
        own = self._graph.run([name], self._forced)[name]
        del self._forced[name]
        self._search.drop(number)
        for behind in self._behind(number):
            if (
                self._search.fits(behind, name)
                and self._closeness.difference(own, self._recording.keys[behind]) <= SIMILAR
            ):
                self._forced[name] = self._search.as_read(behind, name)
                if self._is_better(follower, (), wrong):
                    self._search.pair(behind, name, BY_PLACE)
                    return
                del self._forced[name]

    def _behind(self, number: int) -> Iterator[int]:
        """The tensors without a value that are made from a tensor, one from the other."""
        reached = {number}
        for call in self._recording.calls:
            if reached.intersection(call.inputs):
                free = [each for each in call.new_outputs if each not in self._search.names]
                reached.update(free)
                yield from free

    def _ways(self, number: int) -> Iterator[list[str]]:
        """Sets of matched values before a tensor that may be the reason why it is wrong, in the graph's order.

        If it agrees as it came, these are the values behind it that do not; else more and more values before it.
        """
        names = self._search.names
        hypotheses = {name: each for each, name in names.items() if self._is_hypothesis(each)}
        if self._agrees(number, self._accumulated[names[number]]):
            wrong = {name for name, each in hypotheses.items() if not self._agrees(each, self._accumulated[name])}
            if found := self._before(number, wrong, MAX_DEPTH * len(names)):
                yield found
        found = []
        for depth in range(1, MAX_DEPTH + 1):
            more = self._before(number, hypotheses, depth)
            if len(more) == len(found):
                return
            yield more
            found = more

    def _before(self, number: int, allowed: Collection[str], depth: int) -> list[str]:
        """The values in ``allowed`` that a tensor is computed from, through at most ``depth`` matched ones."""
        name = self._search.names[number]
        found: set[str] = set()
        for _ in range(depth):
            cuts = dict.fromkeys(self._forced.keys() - found)
            read = {each for node in self._graph.nodes_behind([name], cuts) for each in names_read(node)}
            new = (read & cuts.keys() & set(allowed)) - {name}
            if not new:
                break
            found |= new
        return sorted(found, key=self._graph.positions.__getitem__)

    def _is_better(self, number: int, free: Collection[str], wrong: float) -> bool:
        """Whether a tensor agrees with the values ``free`` as the file computes them, other than the ``wrong`` one."""
        if self._trials <= 0:
            return False
        error, rounding = self._error(number, free)
        return error <= max(rounding, wrong / BETTER)

    def _error(self, number: int, free: Collection[str]) -> tuple[float, float]:
        """How far a tensor is from the reference if matched values but those in ``free`` are the reference's.

        And how far it may be.
        """
        self._trials -= 1
        name = self._search.names[number]
        forced = {each: key for each, key in self._forced.items() if each not in free}
        found, expected = self._graph.run([name], forced)[name], self._recording.keys[number]
        return self._closeness.difference(found, expected), self._closeness.rounding(found, expected)

    def _agrees(self, number: int, key: str) -> bool:
        return self._closeness.agree(key, self._recording.keys[number])
