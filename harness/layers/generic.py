"""The mutants of a layer without a file: wrong weights, the identity, a wrong output."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from harness.layers import Array, Call, Mutant, identity, with_output, with_weight

DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
STATISTICS = ("running_mean", "running_var")
SEED = 20


def generic_mutants(layer: str, call: Call, outputs: tuple[Array, ...]) -> Iterator[Mutant]:
    """The mutants of ``layer``, which returns ``outputs`` for ``call``.

    Each floating weight negated, zeroed (a bias: dropped), shuffled and drawn anew; the identity if the shapes allow
    it; the first output zeroed, and shifted by one element.
    """
    empty = "the output has no elements" if not any(output.size for output in outputs) else None
    yield from _weight_mutants(layer, call, empty)
    first = call.inputs[0] if call.inputs else np.zeros(0)
    if len(outputs) == 1 and len(call.inputs) == 1 and first.shape == outputs[0].shape:
        yield identity(why_equivalent=empty or _why_identity(layer, call))
    yield with_output(0, "output zeroed", np.zeros_like, why_equivalent=empty)
    single = "the output has one element" if outputs[0].size == 1 else None
    yield with_output(0, "output moved by one", _shifted, why_equivalent=empty or single)


def _weight_mutants(layer: str, call: Call, empty: str | None) -> Iterator[Mutant]:
    rng = np.random.default_rng(SEED)
    for name, weight in call.weights.items():
        if not np.issubdtype(weight.dtype, np.floating) or not weight.size:
            continue
        changes: list[tuple[str, Callable[[Array], Array]]] = [
            ("drawn anew", _draw_near(weight, rng)),
            ("negated", np.negative),
            ("dropped" if "bias" in name else "zeroed", np.zeros_like),
        ]
        if weight.size > 1:
            changes.append(("shuffled", _shifted))
        why = empty or _why_unused(layer, call, name)
        for label, change in changes:
            yield with_weight(call, name, label, change, why_equivalent=why)


def _why_unused(layer: str, call: Call, weight: str) -> str | None:
    """Why the call does not depend on the weight; None if it does."""
    if call.mode == "train" and weight.endswith(STATISTICS):
        return "in training mode it uses the statistics of the batch"
    if layer == "LSTMCell" and weight == "weight_hh" and len(call.inputs) == 1:
        return "it multiplies a state of zeros: torch takes another as a pair, which a spec's inputs are not"
    return None


def _why_identity(layer: str, call: Call) -> str | None:
    """Why the layer is the identity; None if it is not."""
    if layer == "Identity":
        return "it is the identity"
    if layer == "Flatten":
        return "it flattens no axes"
    return "dropout does nothing in evaluation" if layer in DROPOUTS and call.mode == "eval" else None


def _draw_near(weight: Array, rng: np.random.Generator) -> Callable[[Array], Array]:
    """A change to random weights near the old ones; positive weights stay positive."""
    factors, offsets = rng.uniform(0.5, 1.5, weight.shape), rng.uniform(0.01, 0.1, weight.shape)
    return lambda old: old * factors + offsets


def _shifted(array: Array) -> Array:
    return np.roll(array.reshape(-1), 1).reshape(array.shape)
