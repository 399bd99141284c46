"""The same calls timed by harness and by other tools, in turns in one process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from torch.utils.benchmark import Timer as TorchTimer

from benchmarks.latency.chain import example, module, session
from harness.latency.conditions import pace
from harness.latency.figure import latency
from harness.latency.sampling import Effort, Measurement, measure, wall_timer

Call = Callable[[], object]
TURNS = 150
SECONDS = 0.05  # of each tool in each turn
LOOP = 10
QUIET = 0.1  # of the turns: other work on the machine only ever adds


@dataclass(frozen=True, slots=True)
class Pair:
    """One call by two clocks, in microseconds: each tool's figure in its quiet turns."""

    model: str
    call: str
    tool: str
    theirs_us: float
    ours_us: float

    @property
    def ratio(self) -> float:
        """Ours to theirs."""
        return self.ours_us / self.theirs_us


def pairs() -> Iterator[Pair]:
    """``session.run`` beside a tight loop, and eager torch beside ``torch.utils.benchmark``, over four models."""
    models: Mapping[str, tuple[torch.nn.Module, torch.Tensor]] = {
        "the model of 1 ms": (module(), example()),
        "ReLU on 1x64x56x56": (torch.nn.ReLU(), torch.randn(1, 64, 56, 56)),
        "Linear 784 to 64, batch 8": (torch.nn.Linear(784, 64), torch.randn(8, 784)),
        "MaxPool2d on 1x3x512x512": (torch.nn.MaxPool2d(2), torch.rand(1, 3, 512, 512)),
    }
    for name, (model, given) in models.items():
        yield from _beside(name, model.eval().requires_grad_(False), given)


def _beside(name: str, model: torch.nn.Module, given: torch.Tensor) -> Iterator[Pair]:
    _, onnx = session(model, given)
    feed = {onnx.get_inputs()[0].name: given.numpy()}
    run, eager = partial(onnx.run, None, feed), partial(model, given)
    timer = TorchTimer("model(given)", globals={"model": model, "given": given}, num_threads=1)
    tools: tuple[tuple[str, str, Call, Callable[[], float]], ...] = (
        ("session.run", "a tight loop", run, partial(_tight_loop, run)),
        ("eager torch", "torch.utils.benchmark", eager, partial(_torchs_own, timer)),
    )
    for what, tool, call, theirs in tools:
        taken = [_turn(call, theirs, turn) for turn in range(TURNS)]
        ours_us, theirs_us = (float(np.quantile(side, QUIET)) for side in zip(*taken, strict=True))
        yield Pair(name, what, tool, theirs_us, ours_us)


def _turn(call: Call, theirs: Callable[[], float], turn: int) -> tuple[float, float]:
    """Both figures, harness first in every other turn, so that neither always follows the other."""
    if turn % 2:
        other = theirs()
        return _ours(call, turn), other
    return _ours(call, turn), theirs()


def _ours(call: Call, turn: int) -> float:
    return latency("call", [measured({"call": call}, turn, SECONDS)]).median_us


def _tight_loop(call: Call) -> float:
    """Microseconds a call: the median of short loops, as one would write it."""
    loops: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        for _ in range(LOOP):
            call()
        loops.append((time.perf_counter() - start) / LOOP * 1e6)
    return median(loops)


def _torchs_own(timer: TorchTimer) -> float:
    return 1e6 * float(timer.blocked_autorange(min_run_time=SECONDS).median)


def measured(calls: Mapping[str, Call], seed: int, seconds: float) -> Measurement:
    """``calls`` by harness's own engine, in about so many seconds."""
    effort = Effort(0.8 * seconds, 5, 500, 0.05 * seconds, 4 * seconds)
    return measure(calls, effort, random.Random(seed), wall_timer(), pace=pace())


def planted() -> float:
    """How many times as long the slowed model takes: both models in turns in one process, round by round."""
    calls = {str(slowed): session(module(slowed=slowed), example())[0] for slowed in (False, True)}
    taken = [measured(calls, at, 0.5) for at in range(20)]
    return float(
        median(
            other / one
            for each in taken
            for one, other in zip(
                *(each.series[str(slowed)].samples.samples_us for slowed in (False, True)), strict=True
            )
        )
    )
