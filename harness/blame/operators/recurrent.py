"""LSTM, GRU and RNN, with ``sequence_lens`` and every activation. ``onnx.reference`` ignores both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.blame.operators import Array, Operator, wide

Function = Callable[[Array], Array]
State = tuple[Array, ...]

NO_DEFAULT = float("nan")

DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "affine": (NO_DEFAULT, NO_DEFAULT),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "scaledtanh": (NO_DEFAULT, NO_DEFAULT),
    "thresholdedrelu": (1.0, None),
}
"""The activations that have parameters, with the defaults of alpha and beta; None where there is no such parameter."""


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def _activation(name: str, alpha: float, beta: float) -> Function:
    functions: dict[str, Function] = {
        "affine": lambda x: alpha * x + beta,
        "elu": lambda x: np.where(x < 0, alpha * np.expm1(x), x),
        "hardsigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "leakyrelu": lambda x: np.where(x < 0, alpha * x, x),
        "relu": lambda x: np.maximum(x, 0),
        "scaledtanh": lambda x: alpha * np.tanh(beta * x),
        "sigmoid": _sigmoid,
        "softplus": lambda x: np.logaddexp(0, x),
        "softsign": lambda x: x / (1 + np.abs(x)),
        "tanh": np.tanh,
        "thresholdedrelu": lambda x: np.where(x > alpha, x, 0),
    }
    return functions[name]


class _Recurrent(Operator):
    """A cell that is applied along a sequence, in one or both directions.

    A subclass names its default activations, which of its initial states it has, and its ``cell``.
    """

    ACTIVATIONS: tuple[str, ...] = ()

    def cell(self, weights: dict[str, Array], functions: Sequence[Function], x: Array, state: State) -> State:
        """The next state from one step of the sequence; its first array is the output."""
        raise NotImplementedError

    def compute(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        sequence_lens: Array | None = None,
        *states_and_peepholes: Array | None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        """The outputs of every step, then the last states."""
        layout = attributes.get("layout", 0)
        steps = wide(np.swapaxes(x, 0, 1) if layout else x)
        length, batch = steps.shape[:2]
        directions, hidden = w.shape[0], r.shape[-1]
        direction = attributes.get("direction", "forward")
        initial, peepholes = self._states(states_and_peepholes, directions, batch, hidden, layout)
        lengths = np.full(batch, length) if sequence_lens is None else np.asarray(sequence_lens)
        functions = self._functions(attributes, directions)
        outputs, last = [], []
        for index in range(directions):
            weights = {"w": wide(w[index]), "r": wide(r[index])}
            weights["b"] = np.zeros(2 * len(weights["w"])) if b is None else wide(b[index])
            if peepholes is not None:
                weights["p"] = wide(peepholes[index])
            order = range(length - 1, -1, -1) if direction == "reverse" or index else range(length)
            state = tuple(each[index] for each in initial)
            output = np.zeros((length, batch, hidden))
            for step in order:
                running = (step < lengths)[:, None]
                following = self.cell(weights, functions[index], steps[step], state)
                state = tuple(np.where(running, new, old) for new, old in zip(following, state, strict=True))
                output[step] = np.where(running, state[0], 0.0)
            outputs.append(output)
            last.append(state)
        y = np.stack(outputs, axis=1)
        finals = [np.stack(each) for each in zip(*last, strict=True)]
        if layout:
            y, finals = np.transpose(y, (2, 0, 1, 3)), [np.swapaxes(each, 0, 1) for each in finals]
        return tuple(each.astype(x.dtype) for each in (y, *finals))

    def _states(
        self, optional: Sequence[Array | None], directions: int, batch: int, hidden: int, layout: int
    ) -> tuple[list[Array], Array | None]:
        """The initial states, zero where none is given, and the peephole weights of an LSTM."""
        given = [*optional, None, None, None][:3]
        names, peepholes = (given[:2], given[2]) if isinstance(self, LSTM) else (given[:1], None)
        zeros = np.zeros((directions, batch, hidden))
        states = [zeros if state is None else wide(np.swapaxes(state, 0, 1) if layout else state) for state in names]
        return states, peepholes

    def _functions(self, attributes: dict[str, Any], directions: int) -> list[list[Function]]:
        """The activations of each direction, clipped. Parameters are consumed in order by those that have them."""
        alphas, betas = iter(attributes.get("activation_alpha", ())), iter(attributes.get("activation_beta", ()))
        names = attributes.get("activations") or list(self.ACTIVATIONS) * directions
        functions = [_clipped(_next_activation(name, alphas, betas), attributes.get("clip")) for name in names]
        count = len(self.ACTIVATIONS)
        return [functions[index * count : (index + 1) * count] for index in range(directions)]


def _next_activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Function:
    alpha, beta = DEFAULTS.get(name.lower(), (None, None))
    parameters = (0.0 if alpha is None else next(alphas, alpha), 0.0 if beta is None else next(betas, beta))
    if np.isnan(parameters).any():
        raise NotImplementedError(f"the activation {name} without a parameter that has no default")
    return _activation(name.lower(), *parameters)


def _clipped(function: Function, limit: float | None) -> Function:
    return function if not limit else lambda x: function(np.clip(x, -limit, limit))


class RNN(_Recurrent):
    """RNN as defined in https://onnx.ai/onnx/operators/onnx__RNN.html."""

    ACTIVATIONS = ("Tanh",)

    def cell(self, weights: dict[str, Array], functions: Sequence[Function], x: Array, state: State) -> State:
        """The next hidden state."""
        gates = x @ weights["w"].T + state[0] @ weights["r"].T + sum(np.split(weights["b"], 2))
        return (functions[0](gates),)


class GRU(_Recurrent):
    """GRU as defined in https://onnx.ai/onnx/operators/onnx__GRU.html. The gates are in the order z, r, h."""

    ACTIVATIONS = ("Sigmoid", "Tanh")

    def cell(self, weights: dict[str, Array], functions: Sequence[Function], x: Array, state: State) -> State:
        """The next hidden state."""
        (hidden,), (gate, candidate) = state, functions
        input_bias, hidden_bias = np.split(weights["b"], 2)
        from_x = np.split(x @ weights["w"].T + input_bias, 3, axis=-1)
        recurrent = np.split(weights["r"], 3)
        bias_z, bias_r, bias_h = np.split(hidden_bias, 3)
        z = gate(from_x[0] + hidden @ recurrent[0].T + bias_z)
        r = gate(from_x[1] + hidden @ recurrent[1].T + bias_r)
        if getattr(self, "linear_before_reset", 0):
            h = candidate(from_x[2] + r * (hidden @ recurrent[2].T + bias_h))
        else:
            h = candidate(from_x[2] + (r * hidden) @ recurrent[2].T + bias_h)
        return ((1 - z) * h + z * hidden,)


class LSTM(_Recurrent):
    """LSTM as defined in https://onnx.ai/onnx/operators/onnx__LSTM.html. The gates are in the order i, o, f, c."""

    ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")

    def compute(self, x: Array, w: Array, r: Array, *optional: Array | None, **attributes: Any) -> tuple[Array, ...]:
        """The outputs of every step, then the last hidden and cell states."""
        if attributes.get("clip"):
            # The definition clips the input of every activation, ONNX Runtime not that of the last one.
            raise NotImplementedError("LSTM with clip")
        return super().compute(x, w, r, *optional, **attributes)

    def cell(self, weights: dict[str, Array], functions: Sequence[Function], x: Array, state: State) -> State:
        """The next hidden and cell state."""
        (hidden, cell), (gate, candidate, squash) = state, functions
        gates = x @ weights["w"].T + hidden @ weights["r"].T + sum(np.split(weights["b"], 2))
        i, o, f, c = np.split(gates, 4, axis=-1)
        peep_i, peep_o, peep_f = np.split(weights["p"], 3) if "p" in weights else (0.0, 0.0, 0.0)
        i = gate(i + peep_i * cell)
        f = 1 - i if getattr(self, "input_forget", 0) else gate(f + peep_f * cell)
        following = f * cell + i * candidate(c)
        return gate(o + peep_o * following) * squash(following), following


RECURRENT_OPERATORS = (RNN, GRU, LSTM)
