"""The steps of ``harness sensitivity`` that load models. Each is one call in the separate process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.check.stages import message_of
from harness.errors import Unsupported
from harness.exporters import Artifact
from harness.latency.sampling import Call
from harness.precision import Announce, Problems, quiet
from harness.precision.hazards import Hazard, find_hazards
from harness.precision.layers import Layer, Lowering, NotLowered, layers_of, lower, lowered_nodes, not_lowered
from harness.precision.measure import Decided, Measure, Timing, decided, measure, timed
from harness.precision.model import (
    RUNTIME,
    ModelQuestion,
    NotPrepared,
    PreparedModel,
    file_size,
    prepared_model,
    run_file,
)
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.language.inputs.fills import array
from harness.spec.targets import transform_named
from harness.transforms import LowersNothing

COPIED_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one choice of kept layers costs: its ``measure`` and the ``bytes`` of its file.

    ``failed`` says why there is no measure. ``unchanged`` is True if nothing at all is lowered.
    """

    measure: Measure | None
    bytes: int | None = None
    failed: str | None = None
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """What is known before the search: the layers, the samples, and the model with nothing kept.

    ``seconds`` is how long one choice takes, ``digest`` identifies the model and its samples.
    """

    layers: tuple[Layer, ...]
    samples: tuple[str, ...]
    inputs: tuple[str, ...]
    drawn: bool
    decided: Decided | None
    everything: Outcome
    bytes: int
    seconds: float
    digest: str
    notes: tuple[str, ...] = ()
    not_lowered: tuple[NotLowered, ...] = ()


def start(scratch: Path, question: ModelQuestion, lowering: Lowering, *, announce: Announce) -> Start | Problems:
    """Prepare the model, and lower all of it."""
    announce("build")
    quiet(scratch)
    try:
        model = prepared_model(question, scratch)
        answers = model.answers
        announce("export")
        before = time.perf_counter()
        path = _lowered_path(scratch, "everything")
        lower(model.artifact, lowering, (), model.calibration, path)
        nodes = lowered_nodes(model.artifact.path, path)
        layers = layers_of(model.artifact.path, nodes)
        everything = _measured(model, Artifact("onnx", path, ""))
        seconds = time.perf_counter() - before
    except NotPrepared as error:
        return Problems(error.problems)
    except ValueError as error:
        return Problems((f"{question.model}: {error}",))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code, or a library that refuses the model
        return Problems((f"{question.model}: {message_of(error)}",))
    return Start(
        layers,
        tuple(sample.name for sample in model.samples),
        model.inputs,
        model.drawn,
        decided(model.decisions, answers[0]),
        everything,
        file_size(model.artifact.path),
        seconds,
        model.digest,
        model.notes,
        not_lowered(model.artifact.path, nodes, lowering.word),
    )


def measure_kept(
    scratch: Path, question: ModelQuestion, lowering: Lowering, kept: Sequence[str], *, announce: Announce
) -> Outcome:
    """Lower everything but the nodes ``kept``, and run it on all samples."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("export")
    return _lower_and(model, lowering, kept, _lowered_path(scratch, "kept"), lambda each: _measured(model, each))


def hazards(
    scratch: Path, question: ModelQuestion, lowering: Lowering, nodes: Sequence[str], *, announce: Announce
) -> tuple[Hazard, ...] | str:
    """The hazards on the way to the outputs; a text says why there are none to see."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("run")
    lowered = scratch / "everything" / "model.onnx"
    precision = transform_named(lowering.word).precision
    if precision == "bfloat16":  # it has the range of float32
        return ()
    half = precision == "float16"
    per_channel = lowering.options.get("per_channel") == "on"
    try:
        return find_hazards(model.artifact, lowered, set(nodes), model.samples, half=half, per_channel=per_channel)
    except Exception as error:  # noqa: BLE001 - a runtime that does not run the model with more outputs
        return message_of(error)


def time_choices(
    scratch: Path,
    question: ModelQuestion,
    lowering: Lowering,
    choices: Mapping[str, Sequence[str] | None],
    *,
    announce: Announce,
) -> dict[str, Timing]:
    """The latency of each choice of kept nodes on the first sample, sampled in turns; None is the float32 model."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("run")
    calls: dict[str, Call] = {}
    sessions: list[Session] = []
    first = model.samples[0].read()
    for name, kept in choices.items():
        artifact: Artifact | None = model.artifact
        if kept is not None:
            path = _lowered_path(scratch, f"timed-{len(calls)}")
            outcome = _lower_and(model, lowering, kept, path, lambda _each: Outcome(None))
            artifact = None if outcome.failed else model.artifact if outcome.unchanged else Artifact("onnx", path, "")
        if artifact is not None:
            session = plugins("runtimes")[RUNTIME].load(artifact, {})
            sessions.append(session)
            calls[name] = session.bind(first)
    timings = timed(calls)
    for session in sessions:
        session.close()
    return {name: timings.get(name, Timing(None)) for name in choices}


def write_files(
    scratch: Path, question: ModelQuestion, lowering: Lowering, kept: Sequence[str], folder: Path, *, announce: Announce
) -> Outcome:
    """Write the model in float32, the one with the nodes ``kept``, and samples into ``folder``; run what is written."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("export")
    for name in ("float32", "mixed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _copy_model(model, folder / "float32")
    samples = folder / "samples"
    shutil.rmtree(samples, ignore_errors=True)
    samples.mkdir()
    for number, sample in enumerate(model.samples[:COPIED_SAMPLES]):
        inputs: dict[str, Any] = {spec.label: array(spec) for spec in sample.set.inputs}
        np.savez(samples / f"{number:04}.npz", **inputs)
    mixed = folder / "mixed" / "model.onnx"
    for old in mixed.parent.iterdir():
        old.unlink()
    outcome = _lower_and(model, lowering, kept, mixed, lambda each: _measured(model, each))
    if outcome.unchanged:
        _copy_model(model, mixed.parent)
    return outcome


def _copy_model(model: PreparedModel, folder: Path) -> None:
    """Copy the float32 file, with its data beside it, into ``folder``."""
    for path in model.artifact.path.parent.iterdir():
        shutil.copy(path, folder / path.name)


def _lower_and(
    model: PreparedModel,
    lowering: Lowering,
    kept: Sequence[str],
    path: Path,
    then: Callable[[Artifact], Outcome],
) -> Outcome:
    """What ``then`` finds of the lowered file, or how it failed."""
    try:
        return then(lower(model.artifact, lowering, kept, model.calibration, path))
    except LowersNothing:
        return Outcome(_same(model), file_size(model.artifact.path), unchanged=True)
    except Unsupported as error:
        return Outcome(None, failed=str(error))
    except Exception as error:  # noqa: BLE001 - a library that refuses one choice: it is a row, and the others go on
        return Outcome(None, failed=message_of(error))


def _measured(model: PreparedModel, artifact: Artifact) -> Outcome:
    names = [sample.name for sample in model.samples]
    answers = run_file(artifact, model.samples)
    return Outcome(measure(model.answers, answers, names, model.decisions), file_size(artifact.path))


def _same(model: PreparedModel) -> Measure:
    """The measure of the float32 model itself."""
    return measure(model.answers, model.answers, [sample.name for sample in model.samples], model.decisions)


def _lowered_path(scratch: Path, name: str) -> Path:
    """The path of a lowered file, in an empty folder."""
    folder = scratch / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder / "model.onnx"
