"""What the series of a measurement are called.

What one fresh process is asked to measure, and what it gives back: plain data.

What happens in one fresh process: every target is loaded, and all are sampled in turns with eager.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.bench.settings import BenchSettings
from harness.check.settings import Settings
from harness.check.stages import message_of
from harness.exporters import Artifact
from harness.latency.conditions import pace, read_machine_thoroughly
from harness.latency.figure import EAGER
from harness.latency.sampling import Call, Measurement, measure, wall_timer
from harness.registry import plugins
from harness.runtimes import DeviceTimed, Runtime, Session, Transferring
from harness.spec.language.case import Case
from harness.spec.targets import Target

TRANSFER = "transfer"
"""The inputs to the device and the outputs back, without computing."""


def series(target: Target | str, variant: str = "") -> str:
    """The name of a target's own call, or of a variant of it: ``iobinding=off``, :data:`TRANSFER`."""
    return f"{target} {variant}".strip()


@dataclass(frozen=True, slots=True)
class Task:
    """One case at one set of shapes on all targets where it verifies; ``turn`` numbers the processes from 0.

    ``scratch`` is a folder that the run removes, ``home`` the one that a factory's module is looked for in.
    """

    case: Case
    targets: tuple[Target, ...]
    turn: int
    bench: BenchSettings
    settings: Settings
    scratch: Path
    home: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a target's session says of itself, and how long it took to come to a first answer in this process.

    ``device_us`` are single runs by the device's own clock, where it has one.
    """

    facts: Mapping[str, Any]
    load_s: float
    first_run_s: float
    device_us: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What one process measured: series by the names of :mod:`harness.bench.process`, and what it loaded, by target.

    ``troubles`` are, by target, why there is nothing of it.
    """

    measurement: Measurement
    loaded: Mapping[str, Loaded]
    troubles: Mapping[str, str] = field(default_factory=dict)


Array = NDArray[Any]
OTHER_BINDING = {"on": "off", "off": "on"}
DEVICE_RUNS = 20


@dataclass(frozen=True)
class Material:
    """What a case gives to be timed; ``eager`` is None where there is no torch to ask."""

    inputs: Mapping[str, Array]
    artifact: Callable[[Target], Artifact]
    eager: Call | None


def take(task: Task, sized: Callable[[int], None] = lambda _size: None) -> Taken:
    """Measure ``task`` in this process. A target that cannot be timed is told among the troubles.

    ``sized`` is told how many bytes the model takes, as soon as that is known.
    """
    os.chdir(task.home)
    if task.bench.cpus:
        os.sched_setaffinity(0, task.bench.cpus)
    material = _material(task, sized)
    order = random.Random(f"{task.case.id} {task.turn}")  # noqa: S311 - an order, no secret
    loaded: dict[str, Loaded] = {}
    troubles: dict[str, str] = {}
    calls: dict[str, Call] = {} if material.eager is None else {EAGER: material.eager}
    with ExitStack() as opened:
        for target in order.sample(task.targets, len(task.targets)):
            try:
                loaded[str(target)], own = _load(target, material, task, opened)
            except BaseException as error:  # noqa: BLE001 - a runtime that verifies and cannot be timed is told, in words
                troubles[str(target)] = message_of(error)
            else:
                calls |= own
        effort = task.bench.effort(len(calls))
        measurement = measure(calls, effort, order, wall_timer(), read_machine_thoroughly, pace())
    return Taken(measurement, loaded, troubles)


def _load(target: Target, material: Material, task: Task, opened: ExitStack) -> tuple[Loaded, dict[str, Call]]:
    """A session of ``target`` with its first run, and the calls that time it: its own, and its variants'."""
    artifact, options = material.artifact(target), options_of(target, task)
    runtime: Runtime = plugins("runtimes")[target.runtime]
    start = time.perf_counter()
    session = runtime.load(artifact, options)
    opened.callback(session.close)
    ready = time.perf_counter()
    session.run(material.inputs)
    answered = time.perf_counter()
    calls: dict[str, Call] = {series(target): session.bind(material.inputs)}
    if "iobinding" in runtime.options:
        other = OTHER_BINDING[options.get("iobinding", "on")]
        unbound = runtime.load(artifact, {**options, "iobinding": other})
        opened.callback(unbound.close)
        calls[series(target, f"iobinding={other}")] = unbound.bind(material.inputs)
    if isinstance(session, Transferring):
        calls[series(target, TRANSFER)] = session.transfer(material.inputs)
    return Loaded(session.facts(), ready - start, answered - ready, _by_the_device(session, material.inputs)), calls


def options_of(target: Target, task: Task) -> dict[str, str]:
    """The target's options; where it leaves the threads open, those that were asked for."""
    known = plugins("runtimes")[target.runtime].options
    asked = {"threads": str(task.bench.threads)} if task.bench.threads is not None and "threads" in known else {}
    return {**asked, **target.options}


def _by_the_device(session: Session, inputs: Mapping[str, Array]) -> tuple[float, ...] | None:
    if not isinstance(session, DeviceTimed):
        return None
    session.device_us(inputs, DEVICE_RUNS)
    return tuple(session.device_us(inputs, DEVICE_RUNS))


def _material(task: Task, sized: Callable[[int], None]) -> Material:
    """The case built and exported, or its recorded model read; torch is loaded only for a case that needs it."""
    from harness.engine.processes import libraries
    from harness.spec.language.case import FileModel, PackedModel

    if isinstance(task.case.model.model, PackedModel):
        libraries.for_recorded_models()
        from harness.check.recorded.packed import PackedCase

        packed = PackedCase(task.case, sized=sized)
        return Material(packed.references[0].inputs, packed.artifact, eager=None)
    if isinstance(task.case.model.model, FileModel):
        libraries.for_recorded_models()
        from harness.check.recorded.recording import Recording

        recording = Recording(task.case, sized=sized)
        inputs = {name: np.asarray(value) for name, value in recording.data_sets[0].inputs.items()}
        return Material(inputs, lambda _target: recording.model.artifact, eager=None)
    libraries.for_specs()
    from harness.check.cache.artifacts import Artifacts
    from harness.check.prepared_case import PreparedCase
    from harness.model.tensors import to_numpy

    kept = task.settings.cache or task.scratch / "artifacts"
    prepared = PreparedCase(task.case, Artifacts(kept, task.scratch), sized=sized)
    arrays = {label: to_numpy(tensor) for label, tensor in prepared.subject.inputs.items()}
    return Material(arrays, prepared.artifact, _eager(prepared.subject, task.bench.threads or 1))


def _eager(subject: Any, threads: int) -> Call:
    """Eager torch on the example inputs, on so many threads whatever the targets set."""
    import torch

    from harness.model.reference import repeatable

    torch.set_num_threads(threads)
    call, _ = repeatable(subject.module, list(subject.inputs.values()))

    def timed() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return call()

    return timed
