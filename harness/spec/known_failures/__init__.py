"""``known-failures.yaml``: the checks that are known to fail, with stage, symptom, versions and reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BeforeValidator, Field

from harness.errors import Location, Problem, SpecError, collect_problems
from harness.result import Stage, Symptom
from harness.spec.glob import NameIndex, matches
from harness.spec.quoting import format_value, limited_comparisons
from harness.spec.yaml import read
from harness.spec.yaml.strict import StrictModel, invalid_value, validated
from harness.spec.yaml.tree import Node

NO_REASON = "TODO"
"""How the reason of an entry begins that nobody has written yet."""


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One entry: checks that are expected to fail at ``stage`` with ``symptom`` under the versions in ``when``."""

    cases: str
    targets: str
    stage: Stage
    symptom: Symptom
    when: str
    reason: str
    issue: str | None
    where: Location

    @property
    def has_reason(self) -> bool:
        """False for an entry as ``harness known-failures update --add`` proposes it, until somebody says why."""
        return not self.reason.upper().startswith(NO_REASON)

    def matches(self, case_id: str, target: str) -> bool:
        """True if the globs match this case and this target, written as in the report."""
        return matches(self.cases, case_id) and matches(self.targets, target)

    def applies(self, versions: Mapping[str, str]) -> bool:
        """True if ``versions``, by distribution name, meet every requirement of ``when``.

        A missing distribution meets no requirement. A pre-release counts as its version.
        """
        by_name = {canonicalize_name(name): version for name, version in versions.items()}
        return all(
            (version := by_name.get(canonicalize_name(requirement.name))) is not None
            and requirement.specifier.contains(version, prereleases=True)
            for requirement in parse_when(self.when)
        )


@lru_cache(maxsize=1024)
def parse_when(when: str) -> tuple[Requirement, ...]:
    """The requirements in a text such as ``torch<2.16, onnxruntime>=1.20,<1.22``.

    A part without a name continues the part before it. Raises ``ValueError`` for any other text.
    """
    texts: list[str] = []
    for part in (part.strip() for part in when.split(",") if when.strip()):
        if texts and part[:1] in {"<", ">", "=", "!", "~"}:
            texts[-1] += f",{part}"
        else:
            texts.append(part)
    try:
        requirements = tuple(map(Requirement, texts))
    except InvalidRequirement as error:
        raise ValueError(str(error).splitlines()[0]) from error
    for requirement in requirements:
        if requirement.url or requirement.marker or requirement.extras or not requirement.specifier:
            raise ValueError(f"{requirement} names no version")
    return requirements


def entries_by_check(entries: Iterable[KnownFailure], checks: Sequence[tuple[str, str]]) -> list[list[KnownFailure]]:
    """For each check, a case's id and a target, the entries that match it, in order.

    Not every entry is tried on every check: with twenty thousand of each, that would take hours.
    """
    by_case: dict[str, list[int]] = {}
    for at, (case_id, _) in enumerate(checks):
        by_case.setdefault(case_id, []).append(at)
    cases = NameIndex(by_case)
    matching: list[list[KnownFailure]] = [[] for _ in checks]
    for entry in entries:
        for at in (at for case_id in cases.matching(entry.cases) for at in by_case[case_id]):
            if matches(entry.targets, checks[at][1]):
                matching[at].append(entry)
    return matching


@limited_comparisons()
def load_known_failures(path: Path | str | None) -> tuple[KnownFailure, ...]:
    """The entries of the file in order; none if ``path`` is None or the file is empty.

    Raises :class:`SpecError` with every problem of the file.
    """
    if path is None:
        return ()
    problems: list[Problem] = []
    tree = read(Path(path), problems)
    if tree.value is None:
        return ()
    if not isinstance(tree.value, tuple):
        raise SpecError([Problem(tree.where, "known failures are a list", "begin each entry with `- cases: ...`")])
    entries: list[KnownFailure] = []
    for node in tree.items:
        with collect_problems(problems):
            entries.append(_known_failure(node))
    problems += _duplicates(entries)
    if problems:
        raise SpecError(problems)
    return tuple(entries)


def _check_when(value: Any) -> Any:
    if isinstance(value, str):
        try:
            parse_when(value)
        except ValueError as error:
            raise invalid_value(
                f"{format_value(value)}: {error}", "write requirements such as `torch<2.16, onnxruntime>=1.20`"
            ) from None
    return value


def _check_text(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise invalid_value("is blank", "write some text")
    return value


Text = Annotated[str, BeforeValidator(_check_text)]


class _Entry(StrictModel):
    cases: Text = Field(examples=["avgpool2d/*"])
    targets: Text = Field(examples=["onnx-*/ort-cpu"])
    stage: Stage = Field(examples=list(get_args(Stage)))
    symptom: Symptom = Field(examples=list(get_args(Symptom)))
    reason: Text = Field(examples=["why it fails"])
    when: Annotated[str, BeforeValidator(_check_when)] = ""
    issue: Text | None = None


def _known_failure(node: Node) -> KnownFailure:
    entry = validated(_Entry, node)
    return KnownFailure(
        cases=entry.cases,
        targets=entry.targets,
        stage=entry.stage,
        symptom=entry.symptom,
        when=entry.when,
        reason=" ".join(entry.reason.split()),
        issue=entry.issue,
        where=node.where,
    )


def _duplicates(entries: list[KnownFailure]) -> list[Problem]:
    """A problem for each entry that repeats the globs, stage, symptom and versions of an earlier one."""
    first: dict[tuple[str, ...], Location] = {}
    problems = []
    for entry in entries:
        key = (entry.cases, entry.targets, entry.stage, entry.symptom, entry.when)
        if key in first:
            problems.append(Problem(entry.where, f"the same entry as on line {first[key].line}", "keep one of them"))
        first.setdefault(key, entry.where)
    return problems
