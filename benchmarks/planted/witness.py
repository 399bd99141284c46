"""A check with a fault in it: the product's own check, on a wrong file or with a runtime that answers wrongly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.planted.answers import Alter, Answer, honest
from harness.check.check import check
from harness.check.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.exporters import Artifact
from harness.model.build import Subject
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Array, Availability, Differentiable, Placement, Session
from harness.spec.targets import Target

NAME = "planted"


class FaultyTrial(PreparedCase):
    """A prepared whose artifact may be exchanged for a wrong one; everything else is made once and stays."""

    planted: Artifact | None = None

    def artifact(self, target: Target, subject: Subject | None = None) -> Artifact:
        """The wrong file where there is one."""
        return self.planted or super().artifact(target, subject)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The product's verdict, and the answers that it was given, in the order of the prepared's references.

    ``opset`` is that of the file that was loaded, None for TorchScript and where none was.
    """

    result: Result
    answers: tuple[Answer, ...]
    opset: int | None = None


def witnessed(prepared: FaultyTrial, target: Target, *, file: Path | None = None, alter: Alter = honest) -> Witnessed:
    """The product's own check of ``prepared`` on ``target``, with a wrong ``file`` or with answers that ``alter`` changes.

    The runtime stands under another name meanwhile, so that what it answers can be altered and kept.
    """
    prepared.planted = None
    if file is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        prepared.planted = replace(prepared.artifact(target), path=file, digest=digest)
    runtime = _Runtime(plugins("runtimes")[target.runtime], alter)
    with patch.dict(plugins("runtimes"), {NAME: runtime}):
        result = check(prepared, replace(target, runtime=NAME), Settings(latency=False), Clock())
    return Witnessed(result, tuple(runtime.given[: len(prepared.references)]), runtime.opset)


@dataclass
class _Runtime:
    """The real runtime; what its sessions answer is altered on the way out, and kept."""

    real: Any
    alter: Alter
    name: str = NAME
    given: list[Answer] = field(default_factory=list)
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

    def run(self, inputs: Mapping[str, Array]) -> Answer:
        answer = self.runtime.alter(self.real.run(inputs), inputs, self.real.run)
        self.runtime.given.append(answer)
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
    def gradients(self, inputs: Mapping[str, Array]) -> Answer:
        gradients: Answer = self.real.gradients(inputs)
        return gradients


_: type[Session] = _Session
