"""LSTM, GRU and RNN in every direction, with lengths, states, peepholes, activations and both layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.operator_sweep.models.case import Array, Case, Cases, case, normal

STEPS, BATCH, INPUT, HIDDEN, OPSET = 5, 3, 4, 2, 14
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OTHER_ACTIVATIONS: dict[str, list[str]] = {
    "LSTM": ["HardSigmoid", "Softsign", "Relu"],
    "GRU": ["HardSigmoid", "Softsign"],
    "RNN": ["LeakyRelu"],
}


def recurrent_cases() -> Cases:
    """Each of the three layers in each form."""
    for operator in GATES:
        for direction in ("forward", "reverse", "bidirectional"):
            yield _layer(operator, f"{direction}-lengths", direction, lengths=[5, 2, 4])
            yield _layer(operator, f"{direction}-states", direction, states=True, bias=True)
            yield _layer(operator, f"{direction}-everything", direction, lengths=[1, 5, 3], states=True, bias=True)
        yield _layer(operator, "clip", "forward", bias=True, clip=0.4)
        scaled = ["ScaledTanh"] * len(OTHER_ACTIVATIONS[operator])
        numbers: dict[str, Any] = {
            "activation_alpha": [1.3, 0.7, 0.9][: len(scaled)],
            "activation_beta": [0.5, 1.1, 0.8][: len(scaled)],
        }
        yield _layer(operator, "parameters", "forward", bias=True, activations=scaled, **numbers)
        yield _layer(operator, "activations", "forward", bias=True, activations=OTHER_ACTIVATIONS[operator])
        yield _layer(
            operator, "two-activations", "bidirectional", lengths=[2, 5, 1], activations=2 * OTHER_ACTIVATIONS[operator]
        )
        yield _layer(operator, "layout", "forward", bias=True, layout=1)
    yield _layer("LSTM", "peepholes", "bidirectional", bias=True, states=True, peepholes=True)
    yield _layer("LSTM", "coupled", "forward", bias=True, input_forget=1)
    yield _layer("GRU", "linear-before-reset", "bidirectional", bias=True, linear_before_reset=1, lengths=[3, 5, 2])


def _layer(
    operator: str,
    name: str,
    direction: str,
    *,
    lengths: list[int] | None = None,
    states: bool = False,
    bias: bool = False,
    peepholes: bool = False,
    **attributes: Any,
) -> Case:
    directions, rows = 2 if direction == "bidirectional" else 1, GATES[operator] * HIDDEN
    x: Array = normal(1, STEPS, BATCH, INPUT)
    if attributes.get("layout"):
        x = np.swapaxes(x, 0, 1).copy()
    state = normal(5, directions, BATCH, HIDDEN)
    inputs: list[Array | None] = [
        x,
        normal(2, directions, rows, INPUT),
        normal(3, directions, rows, HIDDEN),
        normal(4, directions, 2 * rows) if bias else None,
        np.array(lengths, np.int32) if lengths else None,
        state if states else None,
    ]
    outputs = 2
    if operator == "LSTM":
        inputs += [state + 1 if states else None, normal(6, directions, 3 * HIDDEN) if peepholes else None]
        outputs = 3
    while inputs[-1] is None:
        inputs.pop()
    return case(
        f"{operator.lower()}-{name}",
        operator,
        inputs,
        OPSET,
        outputs=outputs,
        hidden_size=HIDDEN,
        direction=direction,
        **attributes,
    )
