"""harness's own check with a planted fault: a wrong file, or a runtime with changed outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.planted.outputs import Alter, Outputs, unchanged
from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.exporters import Artifact
from harness.model.build import Subject
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Array, Availability, Differentiable, Placement, Session
from harness.spec.language.case import Case
from harness.spec.targets import Target

NAME = "planted"


class FaultyCase(PreparedCase):
    """A prepared case whose artifact can be replaced by a wrong one; everything else is built once."""

    planted: Artifact | None = None

    def __init__(self, case: Case, artifacts: ArtifactCache) -> None:
        super().__init__(replace(case, draws=1), artifacts)

    def artifact(self, target: Target, subject: Subject | None = None) -> Artifact:
        """Return the wrong file if there is one."""
        return self.planted or super().artifact(target, subject)


@dataclass(frozen=True, slots=True)
class FaultyCheck:
    """The result of the check, and the outputs of each first call, in the order of the references.

    ``opset`` is that of the loaded file; None for TorchScript, and if no file was loaded.
    """

    result: Result
    outputs: tuple[Outputs, ...]
    opset: int | None = None


def run_faulty_check(
    prepared: FaultyCase, target: Target, *, file: Path | None = None, alter: Alter = unchanged
) -> FaultyCheck:
    """Run harness's own check of ``prepared`` with a wrong ``file``, or with outputs that ``alter`` changes.

    A wrapper of the runtime, registered under another name, changes and records the outputs.
    """
    prepared.planted = None
    if file is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        prepared.planted = replace(prepared.artifact(target), path=file, digest=digest)
    runtime = _Runtime(plugins("runtimes")[target.runtime], alter)
    with patch.dict(plugins("runtimes"), {NAME: runtime}):
        result = check(prepared, replace(target, runtime=NAME), Settings(latency=False), Clock())
    return FaultyCheck(result, tuple(runtime.outputs[::2][: len(prepared.references)]), runtime.opset)


@dataclass
class _Runtime:
    """Wraps the real runtime; changes and records the outputs of its sessions."""

    real: Any
    alter: Alter
    name: str = NAME
    outputs: list[Outputs] = field(default_factory=list)
    opset: int | None = None

    @property
    def options(self) -> Mapping[str, str]:
        options: Mapping[str, str] = self.real.options
        return options

    def availability(self) -> Availability:
        available: Availability = self.real.availability()
        return available

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> _Session:
        self.opset = artifact.opset
        session = self.real.load(artifact, options)
        kind = _DifferentiableSession if isinstance(session, Differentiable) else _Session
        return kind(session, self)


@dataclass
class _Session:
    real: Any
    runtime: _Runtime

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        answer = self.runtime.alter(self.real.run(inputs), inputs, self.real.run)
        self.runtime.outputs.append(answer)
        return answer

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        call: Callable[[], object] = self.real.bind(inputs)
        return call

    def placement(self) -> Placement | None:
        placement: Placement | None = self.real.placement()
        return placement

    def facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.real.facts()
        return facts

    def close(self) -> None:
        self.real.close()


class _DifferentiableSession(_Session):
    def gradients(self, inputs: Mapping[str, Array]) -> Outputs:
        gradients: Outputs = self.real.gradients(inputs)
        return gradients


_: type[Session] = _Session
