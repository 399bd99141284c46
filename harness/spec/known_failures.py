"""``known-failures.yaml``: what is known to fail, where, since when, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BeforeValidator, Field

from harness.errors import Location, Problem, SpecError, collecting
from harness.result import Stage, Symptom
from harness.spec.glob import Names, matches
from harness.spec.quoting import few_comparisons, shown
from harness.spec.yaml.reader import read
from harness.spec.yaml.strict import Strict, objection, validated
from harness.spec.yaml.tree import Node


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One entry: checks that are expected to fail at ``stage`` with ``symptom``, under the versions ``when`` names."""

    cases: str
    targets: str
    stage: Stage
    symptom: Symptom
    when: str
    reason: str
    issue: str | None
    where: Location

    def matches(self, case_id: str, target: str) -> bool:
        """True where the entry speaks of this case on this target, written as the report writes them."""
        return matches(self.cases, case_id) and matches(self.targets, target)

    def applies(self, versions: Mapping[str, str]) -> bool:
        """True where every requirement of ``when`` holds for ``versions``, by distribution name.

        A distribution that is not there meets no requirement. A pre-release counts as its version.
        """
        installed = {canonicalize_name(name): version for name, version in versions.items()}
        return all(
            (version := installed.get(canonicalize_name(each.name))) is not None
            and each.specifier.contains(version, prereleases=True)
            for each in requirements(self.when)
        )


@lru_cache(maxsize=1024)
def requirements(when: str) -> tuple[Requirement, ...]:
    """``torch<2.16, onnxruntime>=1.20,<1.22`` as requirements; a part without a name goes on with the one before.

    Raises ``ValueError`` for anything else.
    """
    found: list[str] = []
    for part in (each.strip() for each in when.split(",") if when.strip()):
        if found and part[:1] in {"<", ">", "=", "!", "~"}:
            found[-1] += f",{part}"
        else:
            found.append(part)
    try:
        parsed = tuple(map(Requirement, found))
    except InvalidRequirement as error:
        raise ValueError(str(error).splitlines()[0]) from error
    for each in parsed:
        if each.url or each.marker or each.extras or not each.specifier:
            raise ValueError(f"{each} names no version")
    return parsed


def by_check(entries: Iterable[KnownFailure], checks: Sequence[tuple[str, str]]) -> list[list[KnownFailure]]:
    """For each of ``checks``, a case's id and a target, the entries that match it, in order.

    Not every entry is held against every check: of twenty thousand each, that would take hours.
    """
    by_case: dict[str, list[int]] = {}
    for at, (case_id, _) in enumerate(checks):
        by_case.setdefault(case_id, []).append(at)
    cases = Names(by_case)
    found: list[list[KnownFailure]] = [[] for _ in checks]
    for entry in entries:
        for at in (each for case_id in cases.matching(entry.cases) for each in by_case[case_id]):
            if matches(entry.targets, checks[at][1]):
                found[at].append(entry)
    return found


@few_comparisons()
def load_known_failures(path: Path | str | None) -> tuple[KnownFailure, ...]:
    """The entries of the file in order; none where there is no file.

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
        with collecting(problems):
            entries.append(_known_failure(node))
    problems += _repeated(entries)
    if problems:
        raise SpecError(problems)
    return tuple(entries)


def _when(value: Any) -> Any:
    if isinstance(value, str):
        try:
            requirements(value)
        except ValueError as error:
            raise objection(
                f"{shown(value)}: {error}", "write requirements such as `torch<2.16, onnxruntime>=1.20`"
            ) from None
    return value


def _said(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise objection("is blank", "say it in words")
    return value


Text = Annotated[str, BeforeValidator(_said)]


class _Entry(Strict):
    cases: Text = Field(examples=["avgpool2d/*"])
    targets: Text = Field(examples=["onnx-*/ort-cpu"])
    stage: Stage = Field(examples=list(get_args(Stage)))
    symptom: Symptom = Field(examples=list(get_args(Symptom)))
    reason: Text = Field(examples=["why it fails"])
    when: Annotated[str, BeforeValidator(_when)] = ""
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


def _repeated(entries: list[KnownFailure]) -> list[Problem]:
    """Entries that say of the same checks what another has said."""
    seen: dict[tuple[str, ...], Location] = {}
    problems = []
    for entry in entries:
        key = (entry.cases, entry.targets, entry.stage, entry.symptom, entry.when)
        if key in seen:
            problems.append(Problem(entry.where, f"line {seen[key].line} says the same", "keep one of them"))
        seen.setdefault(key, entry.where)
    return problems
