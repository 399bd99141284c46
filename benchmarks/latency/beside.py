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
from harness.latency.conditions import calibration_loop
from harness.latency.figure import latency
from harness.latency.sampling import Measurement, SamplingLimits, measure, wall_timer

Call = Callable[[], object]
TURNS = 150
SECONDS = 0.05  # of each tool in each turn
LOOP = 10
UNDISTURBED = 0.1  # quantile of the turns: other work on the machine only ever adds time


@dataclass(frozen=True, slots=True)
class Pair:
    """One call timed by two tools, in microseconds, each in its undisturbed turns."""

    model: str
    call: str
    tool: str
    theirs_us: float
    ours_us: float

    @property
    def ratio(self) -> float:
        """Harness's time divided by the other tool's."""
        return self.ours_us / self.theirs_us


def pairs() -> Iterator[Pair]:
    """Time ``session.run`` with a tight loop and eager torch with ``torch.utils.benchmark``, on four models."""
    models: Mapping[str, tuple[torch.nn.Module, torch.Tensor]] = {
        "the model of 1 ms": (module(), example()),
        "ReLU on 1x64x56x56": (torch.nn.ReLU(), torch.randn(1, 64, 56, 56)),
        "Linear 784 to 64, batch 8": (torch.nn.Linear(784, 64), torch.randn(8, 784)),
        "MaxPool2d on 1x3x512x512": (torch.nn.MaxPool2d(2), torch.rand(1, 3, 512, 512)),
    }
    for name, (model, x) in models.items():
        yield from _pairs_of(name, model.eval().requires_grad_(False), x)


def _pairs_of(name: str, model: torch.nn.Module, x: torch.Tensor) -> Iterator[Pair]:
    _, onnx = session(model, x)
    feed = {onnx.get_inputs()[0].name: x.numpy()}
    run, eager = partial(onnx.run, None, feed), partial(model, x)
    timer = TorchTimer("model(x)", globals={"model": model, "x": x}, num_threads=1)
    tools: tuple[tuple[str, str, Call, Callable[[], float]], ...] = (
        ("session.run", "a tight loop", run, partial(_tight_loop, run)),
        ("eager torch", "torch.utils.benchmark", eager, partial(_torch_benchmark, timer)),
    )
    for name_of_call, tool, call, theirs in tools:
        turns = [_turn(call, theirs, turn) for turn in range(TURNS)]
        ours_us, theirs_us = (float(np.quantile(side, UNDISTURBED)) for side in zip(*turns, strict=True))
        yield Pair(name, name_of_call, tool, theirs_us, ours_us)


def _turn(call: Call, theirs: Callable[[], float], turn: int) -> tuple[float, float]:
    """Both times, harness first in every other turn, so that neither always comes second."""
    if turn % 2:
        theirs_us = theirs()
        return _ours(call, turn), theirs_us
    return _ours(call, turn), theirs()


def _ours(call: Call, turn: int) -> float:
    return latency("call", [measured({"call": call}, turn, SECONDS)]).median_us


def _tight_loop(call: Call) -> float:
    """Microseconds per call: the median of short loops."""
    loops: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        for _ in range(LOOP):
            call()
        loops.append((time.perf_counter() - start) / LOOP * 1e6)
    return median(loops)


def _torch_benchmark(timer: TorchTimer) -> float:
    return 1e6 * float(timer.blocked_autorange(min_run_time=SECONDS).median)


def measured(calls: Mapping[str, Call], seed: int, seconds: float) -> Measurement:
    """Measure ``calls`` with harness, in about so many seconds."""
    limits = SamplingLimits(0.8 * seconds, 5, 500, 0.05 * seconds, 4 * seconds)
    return measure(calls, limits, random.Random(seed), wall_timer(), calibration=calibration_loop())


def planted_ratio() -> float:
    """The slowed model's time divided by the plain one's: both in turns in one process, round by round."""
    calls = {str(slowed): session(module(slowed=slowed), example())[0] for slowed in (False, True)}
    measurements = [measured(calls, at, 0.5) for at in range(20)]
    return float(
        median(
            slowed_us / plain_us
            for each in measurements
            for plain_us, slowed_us in zip(
                *(each.series[str(slowed)].samples.samples_us for slowed in (False, True)), strict=True
            )
        )
    )
