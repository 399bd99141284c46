"""Twins of a layer that has no file of its own: wrong weights, nothing done at all, an output out of place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from harness.layers import Array, Call, Mutant
from harness.layers._mutants import identity, with_output, with_weight

DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
STATISTICS = ("running_mean", "running_var")
SEED = 20


def generic_mutants(layer: str, call: Call, outputs: tuple[Array, ...]) -> Iterator[Mutant]:
    """Wrong layers near ``layer``, which answers ``call`` with ``outputs``.

    Each floating weight negated, zeroed (a bias: dropped), shuffled and drawn anew; the identity where the shape allows
    it; the first output moved by one place and zeroed.
    """
    empty = "the output has no elements" if not any(output.size for output in outputs) else None
    yield from _of_weights(layer, call, empty)
    first = call.inputs[0] if call.inputs else np.zeros(0)
    if len(outputs) == 1 and len(call.inputs) == 1 and first.shape == outputs[0].shape:
        yield identity(why_equal=empty or _does_nothing(layer, call))
    yield with_output(0, "output zeroed", np.zeros_like, why_equal=empty)
    alone = "the output has one element" if outputs[0].size == 1 else None
    yield with_output(0, "output moved by one", _moved, why_equal=empty or alone)


def _of_weights(layer: str, call: Call, empty: str | None) -> Iterator[Mutant]:
    rng = np.random.default_rng(SEED)
    for name, weight in call.weights.items():
        if not np.issubdtype(weight.dtype, np.floating) or not weight.size:
            continue
        why = empty or _unused(layer, call, name)
        yield with_weight(call, name, "drawn anew", _drawn_near(weight, rng), why_equal=why)
        yield with_weight(call, name, "negated", np.negative, why_equal=why)
        yield with_weight(call, name, "dropped" if "bias" in name else "zeroed", np.zeros_like, why_equal=why)
        if weight.size > 1:
            yield with_weight(call, name, "shuffled", _moved, why_equal=why)


def _unused(layer: str, call: Call, weight: str) -> str | None:
    """Why the weight plays no part in this call; None where it does."""
    if call.mode == "train" and weight.endswith(STATISTICS):
        return "in training it takes the batch's own statistics"
    if layer == "LSTMCell" and weight == "weight_hh" and len(call.inputs) == 1:
        return "it multiplies a state of zeros: torch takes another as a pair, which a spec's inputs are not"
    return None


def _drawn_near(weight: Array, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Other weights near the old ones, so that what must be positive stays so."""
    factors, more = rng.uniform(0.5, 1.5, weight.shape), rng.uniform(0.01, 0.1, weight.shape)
    return lambda old: old * factors + more


def _does_nothing(layer: str, call: Call) -> str | None:
    if layer == "Identity":
        return "it is the identity"
    if layer == "Flatten":
        return "it joins no axes"
    return "dropout does nothing in evaluation" if layer in DROPOUTS and call.mode == "eval" else None


def _moved(array: Array) -> Array:
    return np.roll(array.reshape(-1), 1).reshape(array.shape)
