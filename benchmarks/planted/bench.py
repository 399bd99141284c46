"""Plants faults in artifacts and outputs, evenly by kind, and records the outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.planted import exact
from benchmarks.planted.faulty_check import FaultyCase, FaultyCheck, run_faulty_check
from benchmarks.planted.onnx_files import FileFault, file_faults
from benchmarks.planted.outputs import output_faults
from benchmarks.planted.programs import ProgramFault, program_faults
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
    """One planted fault and its outcome. ``really`` is the disagreement in exact arithmetic, None if there is none."""

    kind: str
    case: str
    target: str
    what: str
    really: str | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.kind} in {self.case} on {self.target} ({self.really or 'within the tolerance'})"


Attempt = Callable[[], FaultyCheck]


class Bench:
    """Plants faults, evenly by kind, and records the outcomes."""

    def __init__(self, scratch: Path, each: int, seed: int = 0) -> None:
        self.outcomes: list[Outcome] = []
        self.artifacts = 0
        self._scratch = scratch
        self._each = each
        self._seed = seed
        self._planted: Counter[str] = Counter()

    def plant(self, case: Case, targets: Iterable[Target]) -> None:
        """Plant faults in ``case`` on each of ``targets`` on which it passes without a fault."""
        prepared = FaultyCase(case, ArtifactCache(None, self._scratch))
        for target in targets:
            right = _passing(prepared, target)
            if right is not None:
                self.artifacts += 1
                self._plant(prepared, target, right)

    def _plant(self, prepared: FaultyCase, target: Target, right: FaultyCheck) -> None:
        artifact = prepared.artifact(target)
        rng = np.random.default_rng([self._seed, *f"{prepared.case.id} {target}".encode()])
        answers = output_faults(prepared.references[0], prepared.tolerance(artifact.opset), rng)
        attempts = [
            *self._rarest(
                (fault.kind, partial(self._wrong_file, fault, prepared, target)) for fault in _files(artifact, rng)
            ),
            *self._rarest(
                (fault.kind, partial(run_faulty_check, prepared, target, alter=fault.alter)) for fault in answers
            ),
        ]
        for kind, attempt in attempts:
            self._planted[kind] += 1
            what, why = _outcome(attempt(), right, prepared, artifact)
            self.outcomes.append(Outcome(kind, prepared.case.id, str(target), what, why))

    def _rarest(self, faults: Iterable[tuple[str, Attempt]]) -> Sequence[tuple[str, Attempt]]:
        return sorted(faults, key=lambda fault: self._planted[fault[0]])[: self._each]

    def _wrong_file(self, fault: FileFault | ProgramFault, prepared: FaultyCase, target: Target) -> FaultyCheck:
        prepared.planted = None
        source = prepared.artifact(target).path
        wrong = self._scratch / f"wrong{source.suffix}"
        fault.write(source, wrong)
        return run_faulty_check(prepared, target, file=wrong)


def _files(artifact: Artifact, rng: np.random.Generator) -> Iterator[FileFault | ProgramFault]:
    return (program_faults if artifact.format == "torchscript" else file_faults)(artifact.path, rng)


def _passing(prepared: FaultyCase, target: Target) -> FaultyCheck | None:
    """Return the check without a fault, or None if it does not pass or compares no values."""
    if prepared.case.expect.raises is not None:
        return None
    faulty_check = run_faulty_check(prepared, target)
    return faulty_check if faulty_check.result.status == "passed" and not prepared.references[0].stochastic else None


def _outcome(
    faulty_check: FaultyCheck, right: FaultyCheck, prepared: FaultyCase, artifact: Artifact
) -> tuple[str, str | None]:
    """Return the outcome of a fault, and what is really wrong with the outputs."""
    result = faulty_check.result
    if result.status == "error":
        return REFUSED, result.message
    tolerance = prepared.tolerance(artifact.opset)
    pairs = zip(faulty_check.outputs, prepared.references, strict=True)
    really = next(
        (text for answer, reference in pairs if (text := exact.first_difference(answer, reference, tolerance))), None
    )
    if really is not None:
        return (CAUGHT if result.status == "failed" else MISSED), really
    if result.status == "passed":
        return (UNCHANGED if all(map(exact.same_bits, faulty_check.outputs, right.outputs)) else WITHIN), None
    # Within the tolerance of eager torch's outputs, but an expectation of the spec fails.
    return (FALSE_ALARM if all(finding.passed for finding in result.findings) else BY_THE_SPEC), result.message
