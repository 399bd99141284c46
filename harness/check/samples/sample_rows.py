"""What is kept of one sample: a few numbers. The arrays of thousands of samples would not fit into memory.

A metric of the user's (``metric: package.module:callable``) is one of these numbers. The rows of a check are lines of a
file, from which an interrupted run continues. Its first line says which check they are of and how many there will be.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.compare.decisions import DecisionCounts, count_decisions, decide
from harness.compare.verdict import compare_with_reference
from harness.environment import versions
from harness.errors import DiskFull, UsageError, bounded_text, describe_error
from harness.model.answer import Reference
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Decisions, Tolerance, rules_of
from harness.spec.targets import Target

Array = NDArray[Any]
Answer = Mapping[str, Array]


RETURNS = "return a number, or a pair whose sums are divided (errors, words)"


class Ratio(NamedTuple):
    """The metric of one sample: ``numerator`` over ``denominator``. A plain number has the denominator 1."""

    numerator: float
    denominator: float


@dataclass(frozen=True, slots=True)
class UserMetric:
    """The callable ``name``, which takes an output and a label and returns a number or a pair of numbers.

    With several outputs it takes them as a dict by name. Without labels it takes the reference's output in the place of
    the label. Pairs are summed over all samples before they are divided, as a word error rate is.
    """

    name: str
    function: Callable[[Any, Any], Any]

    def measure(
        self, sample: str, answer: Mapping[str, Array], reference: Mapping[str, Array], label: Array | None
    ) -> Ratio:
        """The metric of ``answer`` to one sample. Raises :class:`UsageError` if it fails, or is no number."""
        expected = _copied(reference) if label is None else np.array(label)
        try:
            value = self.function(_copied(answer), expected)
        except MemoryError:
            raise
        except Exception as error:
            raise UsageError(f"metric {self.name}: it raises {describe_error(error)}") from error
        try:
            ratio = Ratio(*map(float, value)) if isinstance(value, tuple | list) else Ratio(float(value), 1.0)
        except (TypeError, ValueError):
            ratio = Ratio(math.nan, 1.0)
        if not all(map(math.isfinite, ratio)):
            shown = bounded_text(value)[:80]
            raise UsageError(f"metric {self.name}: it gives {shown} for sample {sample}; {RETURNS}")
        return ratio


def user_metric(name: str) -> UserMetric:
    """The callable of the user's; importing it runs its code. Raises :class:`UsageError` if there is none."""
    from harness.model.user_modules import find_factory
    from harness.spec.language.case import FactoryModel

    return UserMetric(name, find_factory(FactoryModel(name)))


@dataclass(frozen=True, slots=True)
class SampleRow:
    """The numbers of one sample, which is number ``index`` of the case.

    ``problem`` is what breaks a rule about a single sample; None if nothing does. ``signal`` and ``noise`` are the sums
    of the squares of the reference's values and of the differences, by output. ``agree`` of ``of`` decisions agree and
    ``ties`` more mean nothing; ``decision`` is the reference's, if it is the only one. ``correct`` are the numbers of
    right decisions of the reference and of the target. ``metric`` are the user's metric for the two.
    """

    index: int
    sample: str
    problem: str | None = None
    max_abs: float | None = None
    sqnr: float | None = None
    signal: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    agree: int = 0
    ties: int = 0
    of: int = 0
    margin: float | None = None
    decision: float | None = None
    correct: tuple[int, int] | None = None
    metric: tuple[Ratio, Ratio] | None = None

    @property
    def wrong(self) -> int:
        """The number of decisions that differ and are no ties."""
        return self.of - self.agree - self.ties

    @property
    def severity(self) -> tuple[bool, int, float]:
        """A sort key: samples that break a rule are largest, then those with wrong decisions, then by noise."""
        return self.problem is not None, self.wrong, -float("inf") if self.sqnr is None else -self.sqnr

    def to_line(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> SampleRow | None:
        """The row that :meth:`to_line` wrote; None for a line that is torn or something else."""
        try:
            raw = json.loads(line)
            pairs = {key: None if raw[key] is None else tuple(raw[key]) for key in ("signal", "noise", "correct")}
            metric = raw["metric"] and (Ratio(*raw["metric"][0]), Ratio(*raw["metric"][1]))
            return cls(**{**raw, **pairs, "metric": metric})
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Measuring:
    """How samples are measured: under which tolerance, with which decisions by output, and by which metric.

    ``own_errors`` are the reference's own, by output, for samples without a float64 reference.
    """

    tolerance: Tolerance
    decisions: Mapping[int, Decisions]
    own_errors: Mapping[str, float]
    metric: UserMetric | None = None

    def row(self, index: int, name: str, answer: Answer, reference: Reference, label: Array | None) -> SampleRow:
        """The row of a sample. Raises :class:`UsageError` for a label or a metric that does not fit the outputs."""
        comparison = compare_with_reference(answer, reference, self.tolerance)
        outputs = comparison.outputs
        sums = [_sums(answer[name], values) for name, values in reference.eager.items() if name in answer]
        ratios = [output.sqnr for output in outputs if output.sqnr is not None]
        errors = [output.max_abs for output in outputs if output.max_abs is not None]
        counts = None if comparison.problems else self._count(answer, reference)
        decides = counts is not None and not isinstance(counts, str)
        fields: dict[str, Any] = {}
        if isinstance(counts, DecisionCounts):
            fields = {"agree": counts.agree, "ties": counts.ties, "of": counts.of, "margin": counts.smallest_margin}
        if decides and label is not None and self.metric is None:
            fields["correct"] = self._correct(name, answer, reference, label)
        if decides and counts is not None and fields["of"] == 1:
            fields["decision"] = float(self._decided(reference.eager).ravel()[0])
        if self.metric is not None and not comparison.problems:
            fields["metric"] = tuple(
                self.metric.measure(name, each, reference.eager, label) for each in (reference.eager, answer)
            )
        return SampleRow(
            index,
            name,
            None if comparison.passed else comparison.message.partition(": ")[2],
            max(errors, default=None),
            min(ratios, default=None),
            tuple(signal for signal, _ in sums),
            tuple(noise for _, noise in sums),
            **fields,
        )

    def _count(self, answer: Answer, reference: Reference) -> DecisionCounts | str | None:
        for index, rule in self.decisions.items():
            name = list(reference.eager)[index]
            float64 = None if reference.float64 is None else reference.float64.get(name)
            if answer[name].shape == reference.eager[name].shape:
                return count_decisions(
                    rule, answer[name], reference.eager[name], float64, self.own_errors.get(name, 0.0)
                )
        return None

    def _decided(self, answer: Answer) -> Array:
        index, rule = next(iter(self.decisions.items()))
        return decide(rule, list(answer.values())[index])

    def _correct(self, name: str, answer: Answer, reference: Reference, label: Array) -> tuple[int, int]:
        expected, actual = self._decided(reference.eager), self._decided(answer)
        if label.size != expected.size:
            raise UsageError(
                f"labels: sample {name} has {label.size} labels and {expected.size} decisions; give one for each"
            )
        right = label.reshape(expected.shape)
        index, rule = next(iter(self.decisions.items()))
        if rule.by in {"argmax", "argmin"}:
            candidates = list(reference.eager.values())[index].shape[rule.axis]
            possible = np.zeros(right.shape, dtype=bool)
            if right.dtype.kind not in "cU":  # neither can be ordered
                possible = (right >= 0) & (right < candidates) & (right == np.floor(right))
            if not possible.all():
                raise UsageError(
                    f"labels: sample {name} has the label {right[~possible][0]}, and the candidates are 0 to "
                    f"{candidates - 1}; number them so, or give a `metric` that knows what it means"
                )
        return int(np.count_nonzero(expected == right)), int(np.count_nonzero(actual == right))


def decision_rules(tolerance: Tolerance, outputs: Answer, *, by_default: bool) -> dict[int, Decisions]:
    """The rules about decisions by output; ``argmax`` of the first floating output ``by_default`` if there are none."""
    found: dict[int, Decisions] = {}
    for index in range(len(outputs)):
        rules = [each for each in rules_of(tolerance.for_output(index)) if isinstance(each, Decisions)]
        if rules and (index in tolerance.by_output or list(outputs.values())[index].dtype.kind not in "iub"):
            found[index] = rules[0]
    if not found and by_default:
        floating = [index for index, values in enumerate(outputs.values()) if values.dtype.kind not in "iubO"]
        found = {floating[0]: Decisions()} if floating else {}
    return found


def _sums(actual: Array, expected: Array) -> tuple[float, float]:
    """The sums of squares of ``expected`` and of the differences, over the values that are finite on both sides."""
    if actual.shape != expected.shape or expected.dtype.kind in "iubO":
        return 0.0, 0.0
    one, other = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(other)
    return float(np.square(other[finite]).sum()), float(np.square(one[finite] - other[finite]).sum())


def _copied(answer: Mapping[str, Array]) -> Any:
    """Copies, so that the user's code changes none of them; the array itself if it is the only one."""
    copies = {name: np.array(values) for name, values in answer.items()}
    return next(iter(copies.values())) if len(copies) == 1 else copies


class SampleLog:
    """The file of one check's rows in ``folder``; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, case: Case, target: Target, artifact: str) -> None:
        """``artifact`` is the digest of the file that runs. Rows of another one, or of other versions, do not count."""
        key = hashlib.sha256(f"{case!r} {target} {artifact} {sorted(versions().items())}".encode()).hexdigest()[:32]
        self._path = None if folder is None else folder / f"{key}.jsonl"
        self._head = {"case": case.id, "target": str(target), "of": len(case.samples)}

    def rows(self) -> dict[int, SampleRow]:
        """The rows that an earlier run wrote, by the number of the sample."""
        if self._path is None or not self._path.is_file():
            return {}
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            found = (SampleRow.from_line(line) for line in lines)
            return {row.index: row for row in found if row is not None}

    def add(self, row: SampleRow) -> None:
        """Write one row. Raises :class:`DiskFull` where the disk is full."""
        if self._path is None:
            return
        try:
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{row.to_line()}\n")
        except OSError as error:
            message = f"{self._path}: {error.strerror}; make room, then continue with --resume"
            raise DiskFull(message) from error


def progress_of_samples(folder: Path) -> Iterator[str]:
    """One line for each check in ``folder`` that is not done: ``mlp on ort-cpu: 1,200 of 10,000 samples``."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            try:
                head = json.loads(next(lines, b""))
                done = sum(1 for _ in lines)
                if done < head["of"]:
                    yield f"{head['case']} on {head['target']}: {done:,} of {head['of']:,} samples"
            except (ValueError, KeyError, TypeError):
                continue  # cut off, or something else
