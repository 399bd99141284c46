"""A program that torch runs as a model under test that shows its inside: TorchScript, ``.pt2``, or a module.

Such a program shows no layers. But everything that torch computes goes through its dispatcher, also inside TorchScript,
so a mode (:class:`torch.utils._python_dispatch.TorchDispatchMode`) sees each operation with its outputs. The reference
is run in the same way, and the two sequences of operations and shapes are aligned. An output that the reference's layer
returned then has its counterpart in the program, which is recorded, and can be replaced by the reference's own tensor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.inside.calls import CLOSE, Array, Closeness, Pairing, Recording, ValueStore
from harness.model.tensors import to_numpy, to_torch

BY_OPERATION, BY_VALUE = "operation", "value"

MAX_TRIALS = 20
"""Runs of the program that tell which of its outputs are another quantity."""

SAME_OPERATION = {"_convolution": "conv", "conv1d": "conv", "conv2d": "conv", "conv3d": "conv", "convolution": "conv"}
"""Operations that a tracer or a program writes in another way."""

_OVERLOAD = re.compile(r"^\w+::|\..*$")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that returned tensors: its name, their shapes, and its time in seconds."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    seconds: float

    @property
    def key(self) -> tuple[str, tuple[tuple[int, ...], ...]]:
        """What is equal for the same operation in two programs."""
        name = _OVERLOAD.sub("", self.name)
        return SAME_OPERATION.get(name, name.strip("_")), self.shapes


Change = Callable[[int, int, torch.Tensor], torch.Tensor]
"""What to return in place of an output: called with the number of the operation and of its output."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each operation that returns tensors, and passes its outputs through ``change``."""

    def __init__(self, change: Change) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Operation] = []
        self._change = change

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled; True would import the compiler, which takes seconds.
        return False

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        began = time.perf_counter()
        outputs = func(*_as_declared(func, args), **(kwargs or {}))
        seconds = time.perf_counter() - began
        leaves, spec = pytree.tree_flatten(outputs)
        tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        if not tensors:
            return outputs
        at = len(self.seen)
        self.seen.append(Operation(func.name(), tuple(tuple(leaves[index].shape) for index in tensors), seconds))
        changed = False
        for position, index in enumerate(tensors):
            tensor = self._change(at, position, leaves[index])
            if tensor is not leaves[index]:
                if func._schema.is_mutable:  # noqa: SLF001 - the only place where an operation says that it works in place
                    leaves[index].copy_(tensor)
                else:
                    leaves[index], changed = tensor, True
        return pytree.tree_unflatten(leaves, spec) if changed else outputs


@dataclass
class Traced:
    """A run of the reference: its operations, and where each of its tensors was computed."""

    operations: Sequence[Operation]
    places: dict[int, tuple[int, int]] = field(default_factory=dict)


class ProgramSubject:
    """``run`` runs the program under test once, ``run_reference`` the reference's own module; both in torch.

    ``traced`` is such a run of the reference that is known already. Without both, everything is matched by value.
    """

    def __init__(
        self,
        run: Callable[[], object],
        run_reference: Callable[[], object] | None,
        store: ValueStore,
        traced: Traced | None = None,
    ) -> None:
        self._run, self._run_reference, self._store, self._traced = run, run_reference, store, traced

    is_program, quantizes = True, False

    def evaluated(self, _number: int) -> str:
        """See :class:`harness.inside.calls.SubjectInside`."""
        return "nothing but torch evaluates a program"

    def paired(self, recording: Recording) -> Pairing:
        """See :class:`harness.inside.calls.SubjectInside`."""
        reference = self.traced(recording)
        plain = _Operations(lambda _at, _position, tensor: tensor)
        with plain:
            self._run()
        aligned = dict(_aligned(reference.operations, plain.seen))
        places = {
            (aligned[at], position): number for number, (at, position) in reference.places.items() if at in aligned
        }
        how = dict.fromkeys(places.values(), BY_OPERATION)
        for place, number in self._found_by_value(recording, places).items():
            places[place], how[number] = number, BY_VALUE
        pairing = Pairing(accumulated=self._kept(places), local=self._kept(places, recording))
        if refuted := self._refuted(recording, pairing, places, how):
            places = {place: number for place, number in places.items() if number not in refuted}
            pairing = Pairing(accumulated=self._kept(places), local=self._kept(places, recording))
        pairing.how = {number: how[number] for number in pairing.local}
        _describe(pairing, places, plain.seen)
        return pairing

    def _kept(
        self, places: Mapping[tuple[int, int], int], recording: Recording | None = None, free: Collection[int] = ()
    ) -> dict[int, str]:
        """The keys of the outputs at ``places`` in a run; with ``recording``, go on with its tensors but ``free``."""
        keys: dict[int, str] = {}
        with _Operations(self._keeping(places, keys, recording, free)):
            self._run()
        return keys

    def _refuted(
        self, recording: Recording, pairing: Pairing, places: Mapping[tuple[int, int], int], how: Mapping[int, str]
    ) -> set[int]:
        """The tensors whose outputs are another quantity, as where a layer is folded into the one before it.

        What follows agrees as it came, and is wrong with the reference's tensor: see :mod:`harness.inside.doubts`.
        """
        closeness = Closeness(self._store)

        def agree(keys: Mapping[int, str], number: int) -> bool:
            return closeness.agree(keys[number], recording.keys[number])

        following = [n for n in pairing.local if not agree(pairing.local, n) and agree(pairing.accumulated, n)]
        refuted = {
            n
            for n in pairing.local
            if how[n] == BY_OPERATION and not agree(pairing.accumulated, n) and n < max(following, default=0)
        }
        if not 0 < len(refuted) <= MAX_TRIALS:
            return set()
        found = self._kept(places, recording, refuted)
        following = [number for number in following if agree(found, number)]
        for number in sorted(refuted if following else ()):  # only those that what follows does not agree with
            found = self._kept(places, recording, refuted - {number})
            if all(agree(found, each) for each in following):
                refuted.remove(number)
        return refuted if following else set()

    def _found_by_value(
        self, recording: Recording, places: Mapping[tuple[int, int], int]
    ) -> dict[tuple[int, int], int]:
        """The first output that is close to each tensor without a place, where all others have the reference's."""
        placed = set(places.values())
        outputs = [number for call in recording.calls for number in call.new_outputs if recording.keys[number]]
        waiting = [number for number in outputs if number not in placed]
        numbers: dict[tuple[int, int], int] = {}
        if not waiting:
            return numbers
        forced = self._keeping(places, {}, recording)

        def look(at: int, position: int, tensor: torch.Tensor) -> torch.Tensor:
            number = None
            if (at, position) not in places:
                shape = tuple(tensor.shape)
                fitting = (each for each in waiting if recording.values(each).shape == shape)
                number = next((each for each in fitting if _is_close(tensor, recording.values(each))), None)
            if number is None:
                return forced(at, position, tensor)
            waiting.remove(number)
            numbers[at, position] = number
            return to_torch(recording.values(number)).to(tensor.dtype)

        with _Operations(look):
            self._run()
        return numbers

    def traced(self, recording: Recording) -> Traced:
        """The operations of the reference, and the first output with the values of each tensor, in order."""
        if self._traced is not None:
            return self._traced
        waiting = [number for call in recording.calls for number in call.new_outputs]
        numbers: dict[str, list[int]] = {}
        for number in waiting:
            numbers.setdefault(recording.keys[number], []).append(number)
        places: dict[int, tuple[int, int]] = {}

        def place(at: int, position: int, tensor: torch.Tensor) -> torch.Tensor:
            if open_ := numbers.get(self._store.key_of(to_numpy(tensor))):
                places[open_.pop(0)] = (at, position)
            return tensor

        mode = _Operations(place)
        if self._run_reference is not None:
            with mode:
                self._run_reference()
        self._traced = Traced(mode.seen, places)
        return self._traced

    def _keeping(
        self,
        places: Mapping[tuple[int, int], int],
        keys: dict[int, str],
        recording: Recording | None = None,
        free: Collection[int] = (),
    ) -> Change:
        """Keep each output that has a place; with ``recording``, go on with the reference's tensor but for ``free``."""

        def keep(at: int, position: int, tensor: torch.Tensor) -> torch.Tensor:
            number = places.get((at, position))
            if number is None:
                return tensor
            keys[number] = self._store.put(to_numpy(tensor))
            if recording is None or number in free:
                return tensor
            return to_torch(recording.values(number)).to(tensor.dtype)

        return keep


def _as_declared(func: Any, args: Sequence[Any]) -> list[Any]:
    """``args`` with tensors where TorchScript computes with numbers as tensors: the mode gets them as plain numbers."""
    declared = func._schema.arguments  # noqa: SLF001 - the only place where an operation says what it takes
    return [
        torch.tensor(value) if type(value) in {int, float, bool} and str(argument.type) == "Tensor" else value
        for argument, value in zip(declared, args, strict=False)
    ]


def _is_close(tensor: torch.Tensor, values: Array) -> bool:
    """True if floating values differ by no more than rounding."""
    if not tensor.is_floating_point() or values.dtype.kind not in "fV" or tensor.numel() < 2:
        return False
    actual, expected = tensor.detach().double(), to_torch(values).double()
    scale = float(expected.square().mean().sqrt())
    error = float((actual - expected).square().mean().sqrt())
    return scale > 0 and error <= CLOSE.get(min(tensor.element_size(), values.dtype.itemsize), 2e-4) * scale


def _aligned(reference: Sequence[Operation], program: Sequence[Operation]) -> Iterator[tuple[int, int]]:
    """The operations of the reference with their counterparts in the program."""
    keys = [each.key for each in reference], [each.key for each in program]
    for block in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        yield from ((block.a + offset, block.b + offset) for offset in range(block.size))


def _describe(pairing: Pairing, places: Mapping[tuple[int, int], int], operations: Sequence[Operation]) -> None:
    """Give each tensor the operations since the one before it, and their time."""
    last = -1
    for (at, _), number in sorted(places.items()):
        if number not in pairing.local:
            continue
        between = operations[last + 1 : at + 1] if at > last else ()
        pairing.nodes[number] = tuple(each.name for each in between)
        pairing.seconds[number] = sum(each.seconds for each in between)
        last = max(last, at)
