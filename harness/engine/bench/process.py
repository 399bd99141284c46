"""One measuring process: what it is asked to measure, what it returns, and how it measures.

The process loads every target of a case, and samples all of them in turns with eager torch. Beside the calls it
measures memory (:class:`PeakMemory`) and the nodes, with the modules that they belong to (:func:`with_modules`).
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.check.settings import Settings
from harness.check.stages import message_of
from harness.engine.bench import BenchSettings
from harness.exporters import Artifact
from harness.latency.conditions import calibration_loop, read_machine_thoroughly
from harness.latency.figure import EAGER
from harness.latency.sampling import Call, Measurement, measure, wall_timer
from harness.registry import plugins
from harness.runtimes import DeviceTimed, NodeTimes, Profiled, Runtime, Session, Transferring
from harness.spec.language.case import Case
from harness.spec.targets import Target

Array = NDArray[Any]
OTHER_BINDING = {"on": "off", "off": "on"}
DEVICE_RUNS = 20
PROFILED_RUNS = 20
TRANSFER = "transfer"
"""The variant that copies the inputs to the device and the outputs back, without computing."""


def series_name(target: Target | str, variant: str = "") -> str:
    """The name of a target's own series, or of a variant of it: ``iobinding=off``, :data:`TRANSFER`."""
    return f"{target} {variant}".strip()


@dataclass(frozen=True, slots=True)
class Task:
    """One case at one set of shapes, on all targets where it verified; ``turn`` numbers the processes from 0.

    ``scratch`` is a folder that the run removes. A factory's module is imported from ``home``. With ``traces``, the
    process measures how long each node takes, and nothing else; the libraries' traces go to that folder.
    """

    case: Case
    targets: tuple[Target, ...]
    turn: int
    bench: BenchSettings
    settings: Settings
    scratch: Path
    home: Path
    traces: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    """The facts of a target's session, and how long it took to load and to run for the first time in this process.

    ``peak_mb`` is the memory that both needed at their peak, None where the system does not tell. ``device_us`` are
    single runs by the device's own clock, where it has one.
    """

    facts: Mapping[str, Any]
    load_s: float
    first_run_s: float
    device_us: tuple[float, ...] | None = None
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessMeasurement:
    """What one process measured: series by :func:`series_name`, and what it loaded, by target.

    ``errors`` are the reasons why a target was not timed, by target. ``nodes`` are the times of the nodes by target,
    and of eager torch's layers by :data:`harness.latency.figure.EAGER`.
    """

    measurement: Measurement
    loaded: Mapping[str, LoadedTarget]
    errors: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, Sequence[NodeTimes]] = field(default_factory=dict)


ProcessOutcome: TypeAlias = "ProcessMeasurement | str"
"""What one process measured, or the reason why it measured nothing."""


def measure_task(task: Task, on_size: Callable[[int], None] = lambda _size: None) -> ProcessMeasurement:
    """Measure ``task`` in this process. A target that cannot be timed goes into ``errors``.

    ``on_size`` is called with the model's size in bytes as soon as it is known.
    """
    os.chdir(task.home)
    if task.bench.cpus:
        os.sched_setaffinity(0, task.bench.cpus)
    workload = _workload(task, on_size)
    if task.traces is not None:
        return _node_times(task, workload, task.traces)
    rng = random.Random(f"{task.case.id} {task.turn}")  # noqa: S311 - an order, no secret
    loaded: dict[str, LoadedTarget] = {}
    errors: dict[str, str] = {}
    calls: dict[str, Call] = {} if workload.eager is None else {EAGER: workload.eager}
    with ExitStack() as sessions:
        for target in rng.sample(task.targets, len(task.targets)):
            try:
                loaded[str(target)], target_calls = _load(target, workload, task, sessions)
            except BaseException as error:  # noqa: BLE001 - a runtime that verifies and cannot be timed is reported
                errors[str(target)] = message_of(error)
            else:
                calls |= target_calls
        limits = task.bench.sampling_limits(len(calls))
        measurement = measure(calls, limits, rng, wall_timer(), read_machine_thoroughly, calibration_loop())
    return ProcessMeasurement(measurement, loaded, errors)


def _node_times(task: Task, workload: _Workload, traces: Path) -> ProcessMeasurement:
    nodes: dict[str, Sequence[NodeTimes]] = {}
    errors: dict[str, str] = {}
    for target in task.targets:
        runtime: Runtime = plugins("runtimes")[target.runtime]
        try:
            artifact = workload.artifact(target)
            with closing(runtime.load(artifact, options_of(target, task))) as session:
                if not isinstance(session, Profiled):
                    errors[str(target)] = f"{target.runtime} does not say how long each node takes"
                    continue
                trace = traces / trace_name(task.case.id, str(target))
                times = session.node_times(workload.inputs(target), PROFILED_RUNS, trace)
            nodes[str(target)] = (
                with_modules(times, artifact.path, workload.modules()) if artifact.format == "onnx" else times
            )
        except BaseException as error:  # noqa: BLE001 - as for timing
            errors[str(target)] = message_of(error)
    if workload.eager_layers is not None:
        nodes[EAGER] = workload.eager_layers(PROFILED_RUNS)
    return ProcessMeasurement(Measurement({}, 0.0, 0, 0.0), {}, errors, nodes)


def trace_name(case: str, target: str) -> str:
    """The name of the file with the trace of a check."""
    return re.sub(r"[^A-Za-z0-9.@+=-]+", "-", f"{case} on {target}").strip("-") + ".json"


@dataclass(frozen=True)
class _Workload:
    """The inputs and the artifact of each target, and the call of the reference; None where there is only an answer.

    ``eager_layers`` returns the times of eager torch's layers in the given number of runs; None without a module.
    ``modules`` returns the paths of the module's parts in the order in which they are called.
    """

    inputs: Callable[[Target], Mapping[str, Array]]
    artifact: Callable[[Target], Artifact]
    eager: Call | None
    eager_layers: Callable[[int], Sequence[NodeTimes]] | None = None
    modules: Callable[[], Sequence[str]] = tuple


def _workload(task: Task, on_size: Callable[[int], None]) -> _Workload:
    """Build and export the case, or read its recorded model; torch is loaded only for a case that needs it."""
    from harness.engine.processes import serving
    from harness.spec.bundle.entries import PackedModel
    from harness.spec.language.case import FileModel

    if isinstance(task.case.model.model, PackedModel):
        serving.load_for_recorded_models()
        from harness.check.recorded.packed import PackedCase

        packed = PackedCase(task.case, on_size=on_size)
        return _Workload(lambda target: packed.references_for(target)[0].inputs, packed.artifact, eager=None)
    if isinstance(task.case.model.model, FileModel):
        serving.load_for_recorded_models()
        from harness.check.recorded.recording import RecordedCase

        recorded = RecordedCase(task.case, on_size=on_size)
        inputs = {name: np.asarray(value) for name, value in recorded.data_sets[0].inputs.items()}
        return _Workload(lambda _target: inputs, lambda _target: recorded.model.artifact, eager=None)
    if task.case.is_recorded:
        serving.load_for_recorded_models()
    else:
        serving.load_for_specs()
    from harness.check.cache.artifacts import ArtifactCache
    from harness.check.files.context import TestedFile
    from harness.check.files.contexts import CaseContexts
    from harness.check.files.reference import FileReference
    from harness.check.judging.lower_precision import inputs_for

    cache = task.settings.cache or task.scratch / "artifacts"
    contexts = CaseContexts(task.case, ArtifactCache(cache, task.scratch), on_size=on_size)

    def inputs_of(target: Target) -> Mapping[str, Array]:
        context = contexts.of(target)
        plain = context.example_inputs if isinstance(context, TestedFile) else contexts.prepared.example_inputs
        return inputs_for(target, plain)

    def artifact_of(target: Target) -> Artifact:
        context = contexts.of(target)
        return context.plain_artifact_for(target) if isinstance(context, TestedFile) else context.artifact(target)

    if isinstance(contexts.reference, FileReference):
        return _Workload(inputs_of, artifact_of, contexts.reference.eager_call())
    subject, threads = contexts.prepared.subject, task.bench.threads or 1
    layers = partial(_eager_layers, subject, threads)
    called = partial(_called_modules, subject)
    return _Workload(inputs_of, artifact_of, _eager_call(subject, threads), layers, called)


def _eager_layers(subject: Any, threads: int, runs: int) -> Sequence[NodeTimes]:
    import torch

    from harness.runtimes._profiles import layer_times

    torch.set_num_threads(threads)
    module, inputs = subject.fresh()
    with torch.no_grad():
        return layer_times(module, lambda: module(*inputs), runs)


def _called_modules(subject: Any) -> Sequence[str]:
    import torch

    module, inputs = subject.fresh()
    called: list[str] = []
    for path, part in module.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            part.register_forward_pre_hook(lambda *_, path=path: called.append(path))
    with torch.no_grad():
        module(*inputs)
    return called


def _eager_call(subject: Any, threads: int) -> Call:
    """Eager torch on the example inputs, on so many threads whatever the targets set."""
    import torch

    from harness.model.running import repeatable_call

    torch.set_num_threads(threads)
    call, _ = repeatable_call(subject.module, list(subject.inputs.values()))

    def with_threads() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return call()

    return with_threads


def _load(target: Target, workload: _Workload, task: Task, sessions: ExitStack) -> tuple[LoadedTarget, dict[str, Call]]:
    """Open a session of ``target`` and run it once; return the calls that time it and its variants."""
    artifact, options = workload.artifact(target), options_of(target, task)
    runtime: Runtime = plugins("runtimes")[target.runtime]
    peak = PeakMemory()
    start = time.perf_counter()
    session = runtime.load(artifact, options)
    sessions.callback(session.close)
    load_end = time.perf_counter()
    inputs = workload.inputs(target)
    session.run(inputs)
    first_run_end = time.perf_counter()
    peak_mb = peak.growth_mb()
    calls: dict[str, Call] = {series_name(target): session.bind(inputs)}
    if "iobinding" in runtime.options:
        binding = OTHER_BINDING[options.get("iobinding", "on")]
        variant = runtime.load(artifact, {**options, "iobinding": binding})
        sessions.callback(variant.close)
        calls[series_name(target, f"iobinding={binding}")] = variant.bind(inputs)
    if isinstance(session, Transferring):
        calls[series_name(target, TRANSFER)] = session.transfer(inputs)
    device_us = _device_us(session, inputs)
    return LoadedTarget(session.facts(), load_end - start, first_run_end - load_end, device_us, peak_mb), calls


def options_of(target: Target, task: Task) -> dict[str, str]:
    """The target's options; a target that leaves its threads open gets those of the bench settings."""
    supported = plugins("runtimes")[target.runtime].options
    threads = task.bench.threads
    default = {"threads": str(threads)} if threads is not None and "threads" in supported else {}
    return {**default, **target.options}


def _device_us(session: Session, inputs: Mapping[str, Array]) -> tuple[float, ...] | None:
    if not isinstance(session, DeviceTimed):
        return None
    session.device_us(inputs, DEVICE_RUNS)
    return tuple(session.device_us(inputs, DEVICE_RUNS))


_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size to the current one


class PeakMemory:
    """The growth of this process's resident memory, from now to its peak. Linux only."""

    def __init__(self) -> None:
        try:
            _RESET.write_text(_RESET_PEAK)
            self._before_kb = _kilobytes("VmRSS")
        except OSError:  # another system, or a container that does not allow it
            self._before_kb = None

    def growth_mb(self) -> float | None:
        """Megabytes (2**20 bytes) at the peak since the beginning; None where the system does not tell."""
        peak = None if self._before_kb is None else _kilobytes("VmHWM")
        return None if peak is None or self._before_kb is None else max(0.0, (peak - self._before_kb) / 1024)


def _kilobytes(field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return None if found is None else int(found[1])


def with_modules(times: Sequence[NodeTimes], path: Path, called: Sequence[str]) -> tuple[NodeTimes, ...]:
    """``times`` with the path of each node's module among the ``called`` ones, by the scope that the exporter wrote.

    A node that the runtime fused from others is known by the value that it computes, if its name has that.
    """
    import onnx

    from harness.check.judging.layers import original_name
    from harness.inside.nodes.matching import first_output, owners

    if not called:
        return tuple(times)
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    by_output = owners(nodes, called)
    paths = {
        name: by_output.get(first_output(node), "") for node in nodes for name in (*node.output, node.name) if name
    }
    return tuple(replace(each, module=paths.get(original_name(each.node), "")) for each in times)
