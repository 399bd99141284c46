"""The nodes that fail, as a folder in ONNX's test format with a script: a public bundle that shows no more of a model.

:func:`write_failing_nodes` is called in a separate process, where the runtimes are loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.processes.limits import die_with_parent
from harness.result import Result, Stage
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import Case, FileModel
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.check.case_context import CaseContext
    from harness.exporters import Artifact
    from harness.inside.nodes.cut import CutNodes
    from harness.inside.nodes.divergence import Walk
    from harness.model.build import Subject

SCRIPT = "run.py"
DIFFERS = "differs"
"""The first word that the script prints if the nodes give another answer than the recorded one."""

TEXT = '''\
"""Run model.onnx on test_data_set_0, and compare with the recorded output. Needs numpy, onnx and onnxruntime."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

here = Path(__file__).parent


def tensor(name):
    return numpy_helper.to_array(onnx.load_tensor(here / "test_data_set_0" / name))


options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(here / "model.onnx", options, providers=["CPUExecutionProvider"])
inputs = {each.name: tensor(f"input_{index}.pb") for index, each in enumerate(session.get_inputs())}
(actual,), expected = session.run(None, inputs), tensor("output_0.pb")
close = np.isclose(actual.astype("float64"), expected.astype("float64"), rtol=0, atol=ALLOWED, equal_nan=True)
if close.all():
    sys.exit(f"agrees: all {close.size} values")
first = np.unravel_index(np.argmin(close), close.shape)
print(f"differs: {(~close).sum()} of {close.size} values; first {actual[first]}, expected {expected[first]}")
'''


@dataclass(frozen=True, slots=True)
class FailingNodes:
    """The folder with the nodes, how many they are, and what the script printed."""

    folder: Path
    nodes: int
    printed: tuple[str, ...]


def failing_value(walk: Walk, result: Result) -> tuple[str, bool] | None:
    """The value that the failing nodes compute, and whether a torch module says what it should be; None if none fails.

    A wrong file is found by comparison with torch, a wrong kernel by the file's own evaluation.
    """
    module, kernel = (each if each is not None and not each.rounding else None for each in (walk.module, walk.kernel))
    if module is not None and (kernel is None or result.blame == "exporter"):
        return module.value, True
    return None if kernel is None else (kernel.value, False)


def write_failing_nodes(
    scratch: Path,
    case: Case,
    target: Target,
    home: Path,
    value: str,
    folder: Path,
    *,
    from_torch: bool,
    announce: Callable[[Stage], None],
) -> int | str:
    """Write the folder; the number of nodes, or why they cannot be shown alone."""
    from harness.check.stages import message_of
    from harness.inside.nodes.cut import NotCut, cut_nodes
    from harness.inside.nodes.torch_calls import TorchCalls

    os.chdir(home)
    announce("run")
    reason = "on these inputs its value does not differ"
    try:
        for artifact, inputs, subject in _sources(scratch, case, target):
            calls = TorchCalls.of(subject, inputs).calls if from_torch and subject is not None else None
            try:
                cut = cut_nodes(artifact, target, inputs, value, calls, scratch)
            except NotCut as error:
                reason = str(error)
                continue
            return _written(cut, folder)
    except BaseException as error:  # noqa: BLE001 - the explanation says why the nodes cannot be shown alone
        return message_of(error)
    return reason


def write_failing_layer(
    scratch: Path,
    case: Case,
    target: Target,
    home: Path,
    value: str,
    folder: Path,
    *,
    announce: Callable[[Stage], None],
) -> int | str:
    """As :func:`write_failing_nodes`, for the layer that is wrong by itself and whose output is ``value``.

    What reaches the nodes, and what they should compute, are the reference's own tensors.
    """
    from harness.check.judging.layers import onnx_inside
    from harness.check.recorded.packed import PackedCase
    from harness.check.stages import message_of
    from harness.explain.calls import contexts_of
    from harness.inside.calls import ValueStore

    os.chdir(home)
    announce("run")
    try:
        packed = isinstance(case.model.model, PackedModel)
        context: CaseContext = PackedCase(case) if packed else contexts_of(case, scratch).of(target)
        reference = context.references_for(target)[0]
        with tempfile.TemporaryDirectory(dir=scratch) as values:
            store, artifact = ValueStore(Path(values)), context.artifact(target)
            inside, subject = onnx_inside(context.reference_inside, target, artifact, reference, store)
            return _written(subject.cut(inside.recording, value), folder)
    except BaseException as error:  # noqa: BLE001 - the explanation says why the nodes cannot be shown alone
        return message_of(error)


def _written(cut: CutNodes, folder: Path) -> int:
    cut.write(folder)
    (folder / SCRIPT).write_text(TEXT.replace("ALLOWED", repr(cut.allowed)), encoding="utf-8")
    return cut.nodes


def run_failing_nodes(folder: Path, seconds: float) -> tuple[str, ...] | None:
    """What the script in ``folder`` printed; None if it did not show that the nodes differ."""
    try:
        ran = subprocess.run(  # noqa: S603 - harness wrote the script
            [sys.executable, "-W", "ignore", SCRIPT],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired:
        return None
    printed = tuple(line.rstrip() for line in ran.stdout.splitlines() if line.strip())
    return printed if ran.returncode == 0 and printed and printed[-1].startswith(f"{DIFFERS}: ") else None


def _sources(scratch: Path, case: Case, target: Target) -> Iterator[tuple[Artifact, Mapping[str, Any], Subject | None]]:
    """The file with each set of inputs, and the module that it was exported from, if it was exported here."""
    import numpy as np

    if isinstance(case.model.model, FileModel):
        from harness.check.recorded.recording import RecordedCase

        recording = RecordedCase(case)
        for each in recording.data_sets:
            arrays = {name: value for name, value in each.inputs.items() if isinstance(value, np.ndarray)}
            yield recording.model.artifact, arrays, None
        return
    if isinstance(case.model.model, PackedModel):
        from harness.check.recorded.packed import PackedCase

        packed = PackedCase(case)
        yield from ((packed.artifact(target), reference.inputs, None) for reference in packed.references)
        return
    from harness.explain.calls import contexts_of

    contexts = contexts_of(case, scratch)
    context = contexts.of(target)
    subject = None if target.tested_file is not None else contexts.prepared.subject
    yield from ((context.artifact(target), reference.inputs, subject) for reference in context.references)
