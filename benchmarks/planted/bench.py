"""Plants faults in artifacts and answers, evenly by kind, and remembers what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.planted import truth
from benchmarks.planted.answers import answer_faults
from benchmarks.planted.onnx_files import FileFault, file_faults
from benchmarks.planted.programs import ProgramFault, program_faults
from benchmarks.planted.witness import FaultyTrial, Witnessed, witnessed
from harness.check.cache.artifacts import ArtifactCache
from harness.exporters import Artifact
from harness.spec.language.case import Case
from harness.spec.targets import Target

REFUSED, CAUGHT, MISSED, BY_THE_SPEC, WITHIN, UNCHANGED, FALSE_ALARM = COLUMNS = (
    *("refused", "caught", "missed"),
    *("by the spec", "within tolerance", "unchanged", "false alarm"),
)
MATTER = (REFUSED, CAUGHT, MISSED)
WRONG = (MISSED, FALSE_ALARM)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One planted fault, and what came of it. ``really`` is what the exact arithmetic found."""

    kind: str
    case: str
    target: str
    what: str
    really: str | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.kind} in {self.case} on {self.target} ({self.really or 'within the tolerance'})"


Attempt = Callable[[], Witnessed]


class Bench:
    """Plants faults, evenly by kind, and remembers what came of each."""

    def __init__(self, scratch: Path, each: int, seed: int = 0) -> None:
        self.outcomes: list[Outcome] = []
        self.artifacts = 0
        self._scratch = scratch
        self._each = each
        self._seed = seed
        self._planted: Counter[str] = Counter()

    def plant(self, case: Case, targets: Iterable[Target]) -> None:
        """Plant faults in ``case`` on those of ``targets`` where it passes without any."""
        prepared = FaultyTrial(case, ArtifactCache(None, self._scratch))
        for target in targets:
            right = _passing(prepared, target)
            if right is not None:
                self.artifacts += 1
                self._plant(prepared, target, right)

    def _plant(self, prepared: FaultyTrial, target: Target, right: Witnessed) -> None:
        artifact = prepared.artifact(target)
        rng = np.random.default_rng([self._seed, *f"{prepared.case.id} {target}".encode()])
        answers = answer_faults(prepared.references[0], prepared.tolerance(artifact.opset), rng)
        attempts = [
            *self._rarest(
                (fault.kind, partial(self._wrong_file, fault, prepared, target)) for fault in _files(artifact, rng)
            ),
            *self._rarest((fault.kind, partial(witnessed, prepared, target, alter=fault.alter)) for fault in answers),
        ]
        for kind, attempt in attempts:
            self._planted[kind] += 1
            what, why = _outcome(attempt(), right, prepared, artifact)
            self.outcomes.append(Outcome(kind, prepared.case.id, str(target), what, why))

    def _rarest(self, faults: Iterable[tuple[str, Attempt]]) -> Sequence[tuple[str, Attempt]]:
        return sorted(faults, key=lambda fault: self._planted[fault[0]])[: self._each]

    def _wrong_file(self, fault: FileFault | ProgramFault, prepared: FaultyTrial, target: Target) -> Witnessed:
        prepared.planted = None
        source = prepared.artifact(target).path
        wrong = self._scratch / f"wrong{source.suffix}"
        fault.write(source, wrong)
        return witnessed(prepared, target, file=wrong)


def _files(artifact: Artifact, rng: np.random.Generator) -> Iterator[FileFault | ProgramFault]:
    return (program_faults if artifact.format == "torchscript" else file_faults)(artifact.path, rng)


def _passing(prepared: FaultyTrial, target: Target) -> Witnessed | None:
    """The check without a fault, where there is anything to spoil: values that are compared, and that are right."""
    if prepared.case.expect.raises is not None:
        return None
    seen = witnessed(prepared, target)
    return seen if seen.result.status == "passed" and not prepared.references[0].stochastic else None


def _outcome(seen: Witnessed, right: Witnessed, prepared: FaultyTrial, artifact: Artifact) -> tuple[str, str | None]:
    """What came of a fault, and what of the answers is really wrong."""
    result = seen.result
    if result.status == "error":
        return REFUSED, result.message
    tolerance = prepared.tolerance(artifact.opset)
    held = zip(seen.answers, prepared.references, strict=True)
    really = next((said for answer, reference in held if (said := truth.beyond(answer, reference, tolerance))), None)
    if really is not None:
        return (CAUGHT if result.status == "failed" else MISSED), really
    if result.status == "passed":
        return (UNCHANGED if all(map(truth.same, seen.answers, right.answers)) else WITHIN), None
    # Near enough to eager torch's answer, but against what the spec says must hold.
    return (FALSE_ALARM if all(finding.passed for finding in result.findings) else BY_THE_SPEC), result.message
