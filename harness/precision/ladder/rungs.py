"""The rungs of ``harness ladder``: one precision on one runtime each. These functions run in the separate process.

A rung is written as ``harness compare`` writes targets: a runtime, with the transforms before it (``+fp16/ort-cpu``).
``eager`` and ``eager+bf16`` are the module of a callable as PyTorch runs it, in float32 or as a whole in another dtype.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.check.stages import message_of
from harness.errors import StageError, Unavailable, UsageError
from harness.latency.sampling import Call
from harness.precision import Announce, Problems, quiet
from harness.precision.measure import Decided, Measure, Timing, decided, measure, timed
from harness.precision.model import (
    ModelQuestion,
    NotPrepared,
    PreparedModel,
    decisions_of,
    file_size,
    numpy_dtype,
    prepared_model,
)
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import parse_target, transform_named
from harness.spec.targets.sets import tested_target
from harness.transforms._apply import transformed

Array = NDArray[Any]
Status = Literal["measured", "unavailable", "failed"]

EVALUATION_FACTOR = 300.0
"""About how many times as long the float64 evaluation of a file takes as a run of it."""
EVALUATION_SECONDS = 60.0
"""A file whose evaluation on all samples would take longer is compared with its float32 run."""
EAGER = re.compile(r"eager(\+(?P<dtype>fp16|bf16))?/torch-(?P<device>cpu|cuda)(\?tf32=(?P<tf32>on|off))?")
DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
NOT_ON_THE_LADDER = frozenset({"reference"})
"""Runtimes that nobody ships with."""
TRANSFORMS = ("bf16", "fp16", "int8", "int8-static")


@dataclass(frozen=True, slots=True)
class Rung:
    """One row of the ladder. ``precision`` is what is asked for, ``word`` is the target."""

    precision: str
    word: str


@dataclass(frozen=True, slots=True)
class RungOutcome:
    """What a rung costs. ``computes_in`` is what the session says of its precision.

    ``message`` says why there is no ``measure``. ``bytes`` is the size of the file, or of the module's parameters.
    """

    status: Status
    measure: Measure | None = None
    bytes: int | None = None
    computes_in: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class LadderStart:
    """What is known before the rungs are tried. ``reference`` says what errors are measured against."""

    rungs: tuple[Rung, ...]
    samples: tuple[str, ...]
    inputs: tuple[str, ...]
    drawn: bool
    decided: Decided | None
    reference: str
    seconds: float
    notes: tuple[str, ...] = ()


def check_rung(word: str) -> None:
    """Raise :class:`UsageError` for a word that is no rung."""
    if not EAGER.fullmatch(word):
        target = parse_target(tested_target("model", word))
        if plugins("runtimes")[target.runtime].takes != "onnx":
            raise UsageError(f"{word}: {target.runtime} does not run ONNX; the module itself is eager/torch-cpu")


def start_ladder(
    scratch: Path, question: ModelQuestion, words: Sequence[str], *, announce: Announce
) -> LadderStart | Problems:
    """Prepare the model and its reference; ``words`` are the rungs, all that are usual if there are none."""
    announce("build")
    quiet(scratch)
    try:
        model = prepared_model(question, scratch)
        before = time.perf_counter()
        answers = model.answers
        seconds = time.perf_counter() - before
        references = _references(model, seconds)
    except NotPrepared as error:
        return Problems(error.problems)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code, or a library that refuses the model
        return Problems((f"{question.model}: {message_of(error)}",))
    rungs = [Rung(_precision(word), word) for word in words] or list(_usual_rungs(model))
    if model.prepared is None and any(EAGER.fullmatch(each.word) for each in rungs):
        return Problems((f"{question.model}: a file has no module for eager; name the callable that it comes from",))
    return LadderStart(
        tuple(rungs),
        tuple(sample.name for sample in model.samples),
        model.inputs,
        model.drawn,
        decided(decisions_of(answers[0], model.axis), answers[0]),
        references.described,
        seconds,
        model.notes,
    )


def try_rung(scratch: Path, question: ModelQuestion, rung: Rung, seconds: float, *, announce: Announce) -> RungOutcome:
    """Run one rung on all samples. ``seconds`` is what the float32 model takes for them."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("load")
    try:
        loaded = _load(model, rung, scratch)
    except Unavailable as error:
        return RungOutcome("unavailable", message=str(error))
    except Exception as error:  # noqa: BLE001 - a library that refuses one rung: it is a row, and the others go on
        return RungOutcome("failed", message=message_of(error))
    references = _references(model, seconds)
    try:
        announce("run")
        answers = (loaded.session.run(loaded.inputs(sample.read())) for sample in model.samples)
        names = [sample.name for sample in model.samples]
        decisions = decisions_of(references.float32[0], model.axis)
        measured = measure(references.float32, answers, names, decisions, references.float64)
        facts = str(loaded.session.facts()["precision"])
    except Exception as error:  # noqa: BLE001 - as above
        return RungOutcome("failed", bytes=loaded.bytes, message=message_of(error))
    finally:
        loaded.session.close()
    return RungOutcome("measured", measured, loaded.bytes, loaded.computes_in or facts)


def time_rungs(scratch: Path, question: ModelQuestion, rungs: Sequence[Rung], *, announce: Announce) -> list[Timing]:
    """The latency of each rung on the first sample, sampled in turns."""
    quiet(scratch)
    model = prepared_model(question, scratch)
    announce("run")
    first = model.samples[0].read()
    calls: dict[str, Call] = {}
    sessions: list[Session] = []
    for rung in rungs:
        loaded = _load(model, rung, scratch)
        sessions.append(loaded.session)
        calls[rung.word] = loaded.session.bind(loaded.inputs(first))
    timings = timed(calls)
    for session in sessions:
        session.close()
    return [timings[rung.word] for rung in rungs]


# Rungs


def _usual_rungs(model: PreparedModel) -> Sequence[Rung]:
    """Each precision on each runtime that is here; static quantization only for samples that were given."""
    words = [
        word for word in TRANSFORMS if word in plugins("transforms") and (word != "int8-static" or not model.drawn)
    ]
    rungs: list[Rung] = []
    for name, runtime in plugins("runtimes").items():
        if runtime.takes != "onnx" or name in NOT_ON_THE_LADDER or not runtime.availability().present:
            continue
        rungs.append(Rung("fp32", name))
        if "tf32" in runtime.options:
            rungs.append(Rung("tf32", f"{name}?tf32=on"))
        if "precision" in runtime.options:
            rungs.append(Rung("default", f"{name}?precision=default"))
        rungs += [Rung(word, f"+{word}/{name}") for word in words]
    rungs += [] if any(each.word.startswith("ort-cuda") for each in rungs) else [Rung("tf32", "ort-cuda?tf32=on")]
    if model.prepared is not None:
        rungs += [Rung("fp32", "eager/torch-cpu"), Rung("bf16", "eager+bf16/torch-cpu")]
        rungs += [Rung("fp16", "eager+fp16/torch-cpu"), Rung("tf32", "eager/torch-cuda?tf32=on")]
    return sorted(rungs, key=lambda each: _ORDER.index(each.precision))


_ORDER = ("fp32", "tf32", "default", *TRANSFORMS)


def _precision(word: str) -> str:
    """What the rung ``word`` asks for."""
    if found := EAGER.fullmatch(word):
        return "tf32" if found["tf32"] == "on" else found["dtype"] or "fp32"
    target = parse_target(tested_target("model", word))
    lowered = [name for name in target.transforms if transform_named(name).precision]
    if lowered:
        return lowered[-1]
    return "tf32" if target.options.get("tf32") == "on" else "default" if "precision" in target.options else "fp32"


@dataclass(frozen=True)
class _Loaded:
    """A session, and the dtype that floating inputs are given in."""

    session: Session
    bytes: int | None
    dtype: str | None = None
    computes_in: str = ""

    def inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as the session takes them."""
        if self.dtype is None:
            return dict(inputs)
        wanted = numpy_dtype(self.dtype)
        return {name: each.astype(wanted) if each.dtype == np.float32 else each for name, each in inputs.items()}


def _load(model: PreparedModel, rung: Rung, scratch: Path) -> _Loaded:
    """Open a session. Raises what the transform or the runtime raises."""
    if found := EAGER.fullmatch(rung.word):
        return _load_eager(model, found["dtype"], found["device"], found["tf32"] or "off")
    target = parse_target(tested_target("model", rung.word))
    runtime = plugins("runtimes")[target.runtime]
    runtime.availability().require(target.runtime)
    artifact = model.artifact
    if target.transforms:
        folder = scratch / f"rung-{hashlib.sha256(target.export.encode()).hexdigest()[:12]}"
        if not (folder / "model.onnx").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            transformed(artifact, folder / "model.onnx", target, model.calibration)
        artifact = replace(artifact, path=folder / "model.onnx")
    return _Loaded(runtime.load(artifact, target.options), file_size(artifact.path))


def _load_eager(model: PreparedModel, dtype: str | None, device: str, tf32: str) -> _Loaded:
    import torch

    from harness.model.tensors import copy_module
    from harness.runtimes._torch_session import CudaSession, TorchSession, lowered_products

    plugins("runtimes")[f"torch-{device}"].availability().require(f"torch-{device}")
    if model.prepared is None:
        raise StageError("a file has no module")
    module = copy_module(model.prepared.subject.module)
    if dtype is not None:
        module = module.to(getattr(torch, DTYPES[dtype]))
    size = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))
    settings = {"threads": "1", "tf32": tf32}
    session: Session
    if device == "cuda":
        session = CudaSession(module.cuda(), settings, "cuda", "none")
    else:
        session = TorchSession(module, settings, "cpu", "none")
    precision = "float32 with TF32" if tf32 == "on" else DTYPES.get(dtype or "", "float32")
    products = "".join(f", {each}" for each in lowered_products())
    return _Loaded(session, size, DTYPES.get(dtype or ""), f"{precision}, eager{products}")


# The reference


@dataclass(frozen=True)
class _References:
    """The answers in float32, and in float64 if they are known."""

    float32: Sequence[Mapping[str, Array]]
    float64: Sequence[Mapping[str, Array]] | None
    described: str


_REFERENCES: list[tuple[PreparedModel, _References]] = []


def _references(model: PreparedModel, seconds: float) -> _References:
    """The reference of ``model``, computed once in this process."""
    if not _REFERENCES or _REFERENCES[0][0] is not model:
        _REFERENCES[:] = [(model, _computed_references(model, seconds))]
    return _REFERENCES[0][1]


def _computed_references(model: PreparedModel, seconds: float) -> _References:
    if model.prepared is not None:
        references, by = model.prepared.references, "PyTorch in float64"
    elif seconds * EVALUATION_FACTOR > EVALUATION_SECONDS:
        return _References(model.answers, None, "the float32 run on ort-cpu (an evaluation in float64 takes too long)")
    else:
        from harness.check.files.reference import FileReference

        references, by = FileReference(model.case).references, "the file evaluated in float64"
    references = references[: len(model.samples)]
    float32 = [each.eager for each in references]
    float64 = [each.float64 for each in references if each.float64 is not None]
    if len(float64) < len(float32):
        return _References(float32, None, f"the float32 run ({by} is not possible or not believed)")
    return _References(float32, float64, by)
