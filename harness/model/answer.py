"""The reference outputs that a target's outputs are compared with, as arrays: recorded and read without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SECOND_CALL = "the second call"
"""How a second call in a row with the same inputs is named in messages."""
AFTER_OTHERS = "a call that follows calls with other inputs"
"""How a call is named that a module with state answers otherwise than a first one."""


def is_second_call(at: str | None) -> bool:
    """True for the ``at`` of a call that follows others in a row: only state can show in it."""
    return at is not None and (at.endswith(SECOND_CALL) or AFTER_OTHERS in at)


@dataclass(frozen=True, slots=True)
class Sample:
    """Every ``every``-th element of each output, in row-major order; ``shapes`` are the whole outputs' shapes."""

    every: int
    shapes: Sequence[tuple[int, ...]]

    def elements_of(self, values: Array) -> Array:
        """The sampled elements of one output."""
        return np.ascontiguousarray(values).reshape(-1)[:: self.every]

    def elements_of_all(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The sampled elements of each output. An output of the wrong shape stays whole, so the comparison fails."""
        shapes = (*self.shapes, *[None] * len(outputs))
        return {
            name: self.elements_of(values) if values.shape == shape else values
            for (name, values), shape in zip(outputs.items(), shapes, strict=False)
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One of ``of`` calls in a row, counted from 1, in which outputs feed inputs.

    ``loop`` has the input that each output feeds at the next step. ``float64`` holds the outputs of the float64
    reference, and ``lower`` those of a run in the lower precision of a target, that have followed their own state since
    the first step. ``own_state`` is True if the target's own state was fed in, not the reference's.
    """

    number: int
    of: int
    loop: Mapping[str, str]
    float64: Mapping[str, Array] | None = None
    lower: Mapping[str, Array] | None = None
    own_state: bool = False


@dataclass(frozen=True)
class Reference:
    """The reference outputs at one set of input shapes.

    ``eager`` holds eager torch's outputs by name. ``float64`` holds the float64 reference's outputs; it is None if the
    case is stochastic or float64 has no kernel. ``magnitudes`` and ``undefined`` are per output, as in
    :class:`harness.layers.Answer`. ``stochastic`` is True if eager's outputs differ under another seed, so that values
    cannot be compared. ``at`` names the set of inputs, if there are several. ``sample`` says which elements the outputs
    hold, None for all. ``second_call`` holds eager torch's outputs at a second call with the same inputs, if they
    differ from the first: the module keeps state. ``after_others`` holds its outputs at a call that follows calls with
    other inputs, None if no such call differs from a first one. ``repeats_shapes`` is True if an earlier set has the
    same shapes.
    ``paths`` say where each output is in what the module returns; empty if it returns a tensor or a sequence.
    ``lower`` holds eager torch's outputs of a run in the lower precision of a target, in float64; None if none asks.
    ``narrow`` are the outputs that the target gives in a 16-bit dtype, by name with that dtype; they are compared in
    the reference's dtype.
    ``unrepeatable`` says why the outputs differ from call to call, if ``stochastic`` is True and more is known.
    ``undecidable`` is the reason why nobody can be blamed for a difference from it; None if there is none.
    ``step`` is the step of a loop; None without one.
    ``computes_in`` is the 16-bit dtype that the reference computes in where its outputs are wider; None if it does not.
    ``flips`` has the integer outputs of which the reference's own run gives others than its float64 run, each with the
    share of its values, over all sets of inputs (:func:`with_flips`).
    """

    inputs: Mapping[str, Array]
    eager: Mapping[str, Array]
    float64: Mapping[str, Array] | None
    magnitudes: Sequence[Array | None]
    undefined: Sequence[Array | None]
    stochastic: bool
    at: str | None = None
    sample: Sample | None = None
    second_call: Mapping[str, Array] | None = None
    after_others: Mapping[str, Array] | None = None
    unrepeatable: str | None = None
    repeats_shapes: bool = False
    lower: Mapping[str, Array] | None = None
    paths: Sequence[str] = ()
    undecidable: str | None = None
    narrow: Mapping[str, str] = field(default_factory=dict)
    step: Step | None = None
    computes_in: str | None = None
    flips: Mapping[str, float] = field(default_factory=dict)

    @property
    def keeps_state(self) -> bool:
        """True if eager torch answers differently at a later call of the same module."""
        return self.second_call is not None or self.after_others is not None

    @property
    def is_on_own_state(self) -> bool:
        """True for a step with the target's own state fed in."""
        return self.step is not None and self.step.own_state

    def on_own_state(self) -> Reference:
        """The reference of the same step with the target's own state: the drift of the reference itself is known."""
        assert self.step is not None
        return replace(
            self,
            at=f"{self.at} on the target's own state",
            float64=self.step.float64,
            lower=self.step.lower,
            second_call=None,
            after_others=None,
            repeats_shapes=True,
            step=replace(self.step, own_state=True),
        )

    def at_call_after_others(self) -> Reference:
        """The reference of a call that follows calls with other inputs."""
        assert self.after_others is not None
        at = AFTER_OTHERS if self.at is None else f"{self.at}, {AFTER_OTHERS}"
        without = replace(self, float64=None, lower=None, second_call=None, after_others=None, repeats_shapes=True)
        return replace(without, at=at, eager=self.after_others)

    def at_call_after(self, name: str, eager: Mapping[str, Array]) -> Reference:
        """The reference of a call that follows one with the inputs ``name``; ``eager`` are the outputs there."""
        following = replace(self, after_others=eager).at_call_after_others()
        return replace(following, at=f"{following.at} ({name})")

    def at_second_call(self) -> Reference:
        """The reference of a second call in a row with the same inputs."""
        at = SECOND_CALL if self.at is None else f"{self.at}, {SECOND_CALL}"
        if self.second_call is None:
            return replace(self, at=at, repeats_shapes=True)
        return replace(
            self,
            at=at,
            eager=self.second_call,
            float64=None,
            lower=None,
            second_call=None,
            after_others=None,
            repeats_shapes=True,
        )

    def comparable_part(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The elements of a target's ``outputs`` that this reference holds: all of them, or those of the sample.

        Those of :attr:`narrow` are widened to the reference's dtype.
        """
        if self.narrow:
            outputs = {name: self._widened(name, values) for name, values in outputs.items()}
        return outputs if self.sample is None else self.sample.elements_of_all(outputs)

    def _widened(self, name: str, values: Array) -> Array:
        if name not in self.eager or values.dtype.name != self.narrow.get(name):
            return values
        return values.astype(self.eager[name].dtype)


def outputs_by_name(outputs: Iterable[Array]) -> dict[str, Array]:
    """The outputs under the names that they have in every artifact: ``output_0``, ``output_1``, ..."""
    return {f"output_{index}": values for index, values in enumerate(outputs)}


def with_flips(references: Sequence[Reference]) -> tuple[Reference, ...]:
    """The references of one case with the share of each integer output that rounding decides."""
    different, values = Counter[str](), Counter[str]()
    for reference in references:
        for name, float64 in (reference.float64 or {}).items():
            eager = reference.eager.get(name)
            if eager is not None and eager.dtype.kind in "biu" and eager.shape == float64.shape:
                different[name] += int(np.count_nonzero(eager != float64))
                values[name] += eager.size
    flips = {name: count / values[name] for name, count in different.items() if count}
    return tuple(replace(each, flips=flips) for each in references) if flips else tuple(references)


def reduced_to_sample(whole: Reference, sample: Sample) -> Reference:
    """``whole`` with only the sampled elements of its outputs, and without its inputs, which can be drawn again."""

    def elements(values: Array | None) -> Array | None:
        return None if values is None else sample.elements_of(values)

    def elements_by_name(outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: sample.elements_of(values) for name, values in outputs.items()}

    return replace(
        whole,
        inputs={},
        eager=elements_by_name(whole.eager),
        float64=None if whole.float64 is None else elements_by_name(whole.float64),
        second_call=None if whole.second_call is None else elements_by_name(whole.second_call),
        after_others=None if whole.after_others is None else elements_by_name(whole.after_others),
        lower=None if whole.lower is None else elements_by_name(whole.lower),
        magnitudes=[elements(values) for values in whole.magnitudes],
        undefined=[elements(mask) for mask in whole.undefined],
        at=f"one element in {sample.every:,}",
        sample=sample,
    )
