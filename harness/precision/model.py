"""The model that is lowered: its file in float32 with a name for every node, its samples, and its float32 answers.

These functions run in the separate process. :func:`prepared_model` prepares a model once for all calls in it.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.files.matching import MatchedInputs, NamedInput, match_inputs
from harness.check.files.signatures import read_file_signature
from harness.errors import StageError, UsageError
from harness.exporters import Artifact
from harness.exporters._files import sha256, sibling_files
from harness.registry import plugins
from harness.spec.language.case import Case, InputSet, StoredModel
from harness.spec.language.inputs.draws import input_sets
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.samples import WHOLE_SAMPLES
from harness.spec.language.inputs.tensors import with_layout
from harness.spec.language.tolerances import Decisions
from harness.spec.model_files import is_model_file, stored_model
from harness.spec.targets import parse_target

if TYPE_CHECKING:
    from harness.check.module.prepared_case import PreparedCase

Array = NDArray[Any]
Inputs = Mapping[str, Array]

DRAWS = 8
"""The number of samples that are drawn where none are given."""
LARGEST_PROTOBUF = 1 << 30
"""Bytes of weights from which on they are saved beside the file: a protobuf holds at most 2 GiB."""
CALIBRATION_BYTES = 1 << 29
"""Samples of so many bytes calibrate; more are not held in memory."""
RUNTIME = "ort-cpu"
"""The runtime that runs the model in float32, and lowered."""


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """The model as it was named on the command line, relative to ``home``: an ONNX file or a callable.

    ``exporter`` is that of a callable. ``samples`` is the number of samples that are used, None for all.
    """

    model: str
    home: Path
    inputs: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    exporter: str = "onnx-dynamo"
    samples: int | None = None
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs: its name, and the inputs as the case describes them."""

    name: str
    set: InputSet
    matched: MatchedInputs | None

    def read(self) -> dict[str, Array]:
        """The inputs by the names of the file."""
        inputs = {spec.label: with_layout(array(spec), spec.layout) for spec in self.set.inputs}
        return inputs if self.matched is None else self.matched.applied_to(inputs)


@dataclass(frozen=True)
class PreparedModel:
    """The ``artifact`` is the model in float32. ``inputs`` describe each input in words; ``drawn`` if they are random.

    ``notes`` tell how the inputs were matched. ``prepared`` holds the module of a callable.
    """

    case: Case
    artifact: Artifact
    samples: Sequence[Sample]
    inputs: tuple[str, ...]
    drawn: bool
    notes: tuple[str, ...] = ()
    prepared: PreparedCase | None = None
    axis: int | None = None

    @cached_property
    def answers(self) -> list[dict[str, Array]]:
        """The outputs in float32 for each sample."""
        return list(run_file(self.artifact, self.samples))

    @cached_property
    def calibration(self) -> list[Inputs]:
        """The inputs that calibrate a quantizer: as many samples as fit into :data:`CALIBRATION_BYTES`."""
        samples: list[Inputs] = []
        size = 0
        for sample in self.samples:
            inputs = sample.read()
            size += sum(values.nbytes for values in inputs.values())
            if samples and size > CALIBRATION_BYTES:
                break
            samples.append(inputs)
        return samples

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file and of all samples."""
        whole = hashlib.sha256(self.artifact.digest.encode())
        for sample in self.samples:
            for name, values in sample.read().items():
                whole.update(f"{name} {values.dtype} {values.shape}".encode())
                whole.update(np.ascontiguousarray(values).tobytes())
        return whole.hexdigest()

    @cached_property
    def decisions(self) -> tuple[str, Decisions] | None:
        """The output that decides, and how: the first one with floating values. None if there is none.

        The candidates are along the last axis, and along axis 1 of an output of four axes or more; with one candidate,
        its sign decides.
        """
        return decisions_of(self.answers[0], self.axis)


def decisions_of(answer: Mapping[str, Array], axis: int | None) -> tuple[str, Decisions] | None:
    """See :attr:`PreparedModel.decisions`. Raises :class:`UsageError` for an ``axis`` that the output lacks."""
    for name, values in answer.items():
        if values.dtype.kind in "fV" and values.ndim:
            along = axis if axis is not None else 1 if values.ndim > 3 else -1
            if not -values.ndim <= along < values.ndim:
                raise UsageError(f"--axis {along}: {name} has {values.ndim} axes; name one of them")
            return name, Decisions("argmax" if values.shape[along] > 1 else "sign", along)
    return None


def run_file(artifact: Artifact, samples: Sequence[Sample], options: Mapping[str, str] | None = None) -> Iterator[Any]:
    """The outputs of the file on :data:`RUNTIME` for each sample in turn."""
    session = plugins("runtimes")[RUNTIME].load(artifact, options or {})
    try:
        for sample in samples:
            yield session.run(sample.read())
    finally:
        session.close()


def file_size(path: Path) -> int:
    """The bytes of the file and of its data beside it."""
    return sum(each.stat().st_size for each in path.parent.iterdir() if each.name.startswith(path.name))


_PREPARED: dict[Path, PreparedModel] = {}


def prepared_model(question: ModelQuestion, folder: Path) -> PreparedModel:
    """The model of ``question``; its file is ``float32/model.onnx`` in ``folder``.

    Raises :class:`NotPrepared` with every problem of the question.
    """
    if folder not in _PREPARED:
        _PREPARED.clear()
        _PREPARED[folder] = _prepare(question, folder)
    return _PREPARED[folder]


class NotPrepared(StageError):
    """The model cannot be prepared; ``problems`` has one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def _prepare(question: ModelQuestion, folder: Path) -> PreparedModel:
    from harness.scaffold.comparison import NoComparison, Question, comparison_spec

    comparison = Question(
        subject=question.model,
        reference=question.model,
        home=question.home,
        inputs=question.inputs,
        shapes=question.shapes,
        arguments=question.arguments,
        weights=question.weights,
    )
    written = comparison_spec(folder, comparison, announce=lambda _stage: None)
    if isinstance(written, NoComparison):
        raise NotPrepared(tuple(dict.fromkeys(written.problems)))
    case = _case(dict(written.spec), question)
    sets = input_sets(case)[: question.samples]
    drawn = not question.inputs
    names = [_name(each, question, number) for number, each in enumerate(sets)]
    matched, notes, prepared = None, written.notes, None
    if is_model_file(question.model):
        source = Path(stored_model(Path(question.model)).path)
        signature = read_file_signature(StoredModel(str(source), "onnx", ""))
        named_inputs = [
            NamedInput(spec.label, np.dtype(numpy_dtype(spec.dtype)), spec.shape) for spec in sets[0].inputs
        ]
        matched = match_inputs(named_inputs, signature, source.name)
    else:
        from harness.check.module.prepared_case import PreparedCase

        exported = folder / "exported"
        exported.mkdir(parents=True, exist_ok=True)
        prepared = PreparedCase(case, ArtifactCache(None, exported))
        source = prepared.artifact(parse_target(f"{question.exporter}/{RUNTIME}")).path
    path = folder / "float32" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    _write_with_names(source, path)
    artifact = Artifact("onnx", path, sha256(path, *sibling_files(path)))
    samples = [Sample(name, each, matched) for name, each in zip(names, sets, strict=True)]
    return PreparedModel(case, artifact, samples, written.inputs, drawn, tuple(notes), prepared, question.axis)


def _case(spec: dict[str, Any], question: ModelQuestion) -> Case:
    """The case as it would be read from a spec in the working directory."""
    from harness.scaffold.comparison import cases_of

    (case,) = spec["cases"]
    case = {key: value for key, value in case.items() if key != "files"}
    if "samples" in case:
        # The key takes globs relative to the spec; these are names of files.
        paths = [glob.escape(os.path.relpath(question.home / text, question.home)) for text in case.pop("samples")]
        if len(paths) > WHOLE_SAMPLES:  # then the first, which is the case's own inputs, is among them
            del paths[0]
        paths = paths[: None if question.samples is None else question.samples - 1]
        case |= {"samples": paths} if paths else {}
    if not question.inputs:
        case["draws"] = min(DRAWS, question.samples or DRAWS)
    # A run judges many samples as a whole, and its sets of inputs leave them out; here each is a set.
    return replace(cases_of({**spec, "cases": [case]}, "model", question.home)[0], data=None)


def _name(each: InputSet, question: ModelQuestion, number: int) -> str:
    if not question.inputs:
        return f"draw {number + 1}"
    if each.at is not None:
        return each.at.removeprefix("sample ")
    from harness.data_files import sample_paths

    return sample_paths(question.home / question.inputs[0])[0].name


def _write_initializers(graph: Any) -> None:
    """Replace the Constant nodes that hold a tensor by initializers."""
    outputs = {value.name for value in graph.output}
    left = []
    for node in graph.node:
        value = next((each for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in outputs:
            graph.initializer.add().CopyFrom(value.t)
            graph.initializer[-1].name = node.output[0]
        else:
            left.append(node)
    del graph.node[:]
    graph.node.extend(left)


def _write_own_vectors(graph: Any) -> None:
    """Give each node its own copy of a float vector that it shares with others."""
    import onnx

    vectors = {
        each.name: each
        for each in graph.initializer
        if len(each.dims) < 2 and each.data_type == onnx.TensorProto.FLOAT and not each.external_data
    }
    read: set[str] = set()
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in vectors and name in read:
                copied = graph.initializer.add()
                copied.CopyFrom(vectors[name])
                copied.name = node.input[at] = f"{name}/{node.name}/{at}"
            read.add(name)


def numpy_dtype(name: str) -> Any:
    """The dtype that NumPy knows under ``name``, or the one of ml_dtypes."""
    import ml_dtypes

    return ml_dtypes.bfloat16 if name == "bfloat16" else name


def _write_with_names(source: Path, path: Path) -> None:
    """Write ``source`` to ``path`` so that each node can be named and lowered by itself.

    A node without a name, or with that of another one, gets one. Weights that are Constant nodes become initializers,
    which the quantizers require. Vectors that several nodes share, such as equal scales that the exporter merged, are
    written for each: the converters lower a shared one for all of its nodes.
    """
    import onnx

    model = onnx.load(str(source))
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)
    _write_initializers(model.graph)
    _write_own_vectors(model.graph)
    for old in path.parent.iterdir():
        old.unlink()
    large = sum(len(each.raw_data) for each in model.graph.initializer) > LARGEST_PROTOBUF
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
