"""Whether a module answers the same at each call, and why not: state, or random numbers.

A target is called several times on one session, as programs call it. Eager torch is called in the same way. Its answers
to a second call, to a call that follows calls with other inputs, and under another seed show which of the two it is.
:func:`parts_in_training` finds parts that stay in training mode where the module is in evaluation mode.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.model.answer import Reference
from harness.model.running import have_same_values, in_one_thread, run_module, runs_in_several_threads
from harness.model.tensors import copy_module, copy_tensor, to_numpy, to_torch
from harness.spec.language.case import Case, FactoryModel, StoredModel

Array = NDArray[Any]

OUTSIDE = (
    "the module answers differently at each call with the same random seed: it keeps state outside itself (a global "
    "variable, a closure), or draws from a generator of its own"
)
DRAWN_ONCE = (
    "the module draws random numbers at its first call and keeps them, so each copy of it answers differently (call it "
    "once before it is exported)"
)


def references_of(
    case: Case,
    module: nn.Module,
    compute: Callable[[bool], Sequence[Reference]],
    in_a_row: Callable[[Sequence[Mapping[str, Array]]], Sequence[Mapping[str, Array]]],
) -> tuple[Reference, ...]:
    """The references that ``compute`` gives, with what further calls show: random numbers, and state.

    ``compute`` takes whether each set of inputs is to be called again by itself. ``in_a_row`` gives the sets of inputs,
    and the first again: the calls of one copy of the module under another seed. Where these answer as the first call of
    a copy does, the module does neither. Otherwise each set is called again, and the row again under the case's seed:
    only the row shows the state of a module that keeps the largest value so far. torch's own layers need none of it.
    """
    references = compute(False)
    answers = _answers_in_a_row(module, references, in_a_row, case.seed + 1)
    if answers is not None and not _differing(references, answers):
        return tuple(references)
    references = compute(True)
    if any(each.stochastic or each.second_call is not None for each in references):
        return tuple(references)
    following: list[Mapping[str, Array]] = []
    # Several threads may add up in another order at each call, which looks like state.
    for threads in (nullcontext, in_one_thread)[: 2 if runs_in_several_threads(module) else 1]:
        with threads():
            answers = _answers_in_a_row(module, references, in_a_row, case.seed)
        if answers is None or not _differing(references, answers):
            return tuple(references)
        following = _following(references, answers)
    return tuple(replace(each, after_others=answer) for each, answer in zip(references, following, strict=True))


def _answers_in_a_row(
    module: nn.Module,
    references: Sequence[Reference],
    in_a_row: Callable[[Sequence[Mapping[str, Array]]], Sequence[Mapping[str, Array]]],
    seed: int,
) -> Sequence[Mapping[str, Array]] | None:
    """What one copy of ``module`` answers to the calls in a row; None if it refuses one of them."""
    copied = copy_module(module)
    answers = []
    try:
        for inputs in in_a_row([each.inputs for each in references]):
            outputs = run_module(copied, [to_torch(values) for values in inputs.values()], seed)
            answers.append({f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)})
    except Exception:  # noqa: BLE001 - eager torch takes the sets one by one, so this shows no more than a refusal
        return None
    return answers


def _following(references: Sequence[Reference], answers: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """Of the answers in a row, for each reference the one to a call that follows others."""
    return [answers[-1], *answers[1 : len(references)]]


def _differing(references: Sequence[Reference], answers: Sequence[Mapping[str, Array]]) -> bool:
    """True if an answer in a row is not that of the first call of a copy."""
    following = _following(references, answers)
    pairs = zip((each.eager for each in references), following, strict=True)
    first = (references[0].eager, answers[0])
    return not all(_have_same_arrays(*pair) for pair in (*pairs, *([first] if len(references) > 1 else [])))


def _have_same_arrays(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name], equal_nan=_has_nan(one[name]))
        for name in one
    )


def _has_nan(values: Array) -> bool:
    return values.dtype.kind not in "iubSU" and bool(np.isnan(values.astype(np.float64)).any())


def why_unrepeatable(case: Case, module: nn.Module, inputs: Sequence[torch.Tensor]) -> str | None:
    """Why a module answers differently with another seed, as far as it can be told; None for torch's own layers."""
    if not isinstance(case.model.model, FactoryModel | StoredModel):
        return None

    def call(part: nn.Module, seed: int) -> list[torch.Tensor]:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what the user's own code may draw from
        return run_module(part, [copy_tensor(tensor) for tensor in inputs], seed)

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        if not have_same_values(call(copy_module(module), case.seed), call(copy_module(module), case.seed)):
            return OUTSIDE
        called = copy_module(module)
        if have_same_values(call(called, case.seed + 1), call(called, case.seed + 2)):
            return DRAWN_ONCE
        if case.mode == "train" or parts_in_training(module):
            return None
        with _DrawingOperators() as drawing:
            call(copy_module(module), case.seed)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    named = ", ".join(drawing.names) or "not with torch's operators"
    dropped = any(name.endswith(("dropout", "bernoulli_")) for name in drawing.names)
    advice = "; if that is F.dropout, call it with training=self.training" if dropped else ""
    return f"the module draws random numbers at each call in evaluation mode too ({named}{advice})"


class _DrawingOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the names of the operators that draw from torch's random numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names[str(func.overloadpacket)] = None
        return func(*args, **(kwargs or {}))


def parts_in_training(module: nn.Module) -> list[str]:
    """The names of the parts that are in training mode, as attributes of ``module``; ``""`` is the module itself."""
    return [name for name, part in _all_parts(module) if part.training]


def in_evaluation(module: nn.Module) -> nn.Module:
    """A copy with every part in evaluation mode, also those that ``eval`` does not reach."""
    copied = copy_module(module)
    for _, part in _all_parts(copied):
        part.training = False
    return copied


def _all_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module inside ``module`` once with its name, those in plain containers included."""
    seen: set[int] = set()
    pending = [("", module)]
    while pending:
        name, part = pending.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield name, part
        prefix = f"{name}." if name else ""
        pending += [(prefix + child, each) for child, each in part.named_children()]
        for attribute, value in vars(part).items():
            if not attribute.startswith("_"):
                pending += [(f"{prefix}{attribute}{key}", each) for key, each in _contained(value)]


def _contained(value: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules directly inside a list, tuple or dict, with their keys in brackets."""
    entries = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    yield from ((f"[{key!r}]", each) for key, each in entries if isinstance(each, nn.Module))
