"""Which checks a run consists of: cases by targets, less what was not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.errors import UsageError
from harness.spec.case import Case
from harness.spec.target import Target


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``I/N`` with 1 <= I <= N. Raises :class:`UsageError` for anything else."""
        index, slash, count = text.partition("/")
        if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        raise UsageError(f"--shard {text}: not a part of a whole; write I/N with 1 <= I <= N, such as 1/4")


@dataclass(frozen=True, slots=True)
class Plan:
    """The cases, each with the targets that it is taken to."""

    work: tuple[tuple[Case, tuple[Target, ...]], ...]

    @property
    def checks(self) -> int:
        """How many checks there are."""
        return sum(len(targets) for _, targets in self.work)


def plan(cases: Sequence[Case], targets: Sequence[Target], keywords: Sequence[str], shard: Shard | None) -> Plan:
    """Every case that any of ``keywords`` names, on every target, or this shard's share of them.

    Raises :class:`UsageError` where nothing is left: a run that verifies nothing must not look like a pass.
    """
    if not targets:
        raise UsageError("no target is named; name one with --targets, or a set in targets.yaml")
    asked = [case for case in cases if _named(case.id, keywords)]
    if not asked:
        raise UsageError(f"-k {' '.join(keywords)}: names none of {len(cases)} cases; harness list shows them")
    if shard is not None:
        asked = [case for at, case in enumerate(asked) if at % shard.count == shard.index - 1]
        if not asked:
            raise UsageError(f"--shard {shard.index}/{shard.count}: holds no case; use fewer shards")
    return Plan(tuple((case, tuple(targets)) for case in asked))


def _named(case_id: str, keywords: Sequence[str]) -> bool:
    """True where a keyword is part of the id, or a glob over all of it; ``[`` and ``]`` stand for themselves."""
    globs = (keyword.replace("[", "[[]") for keyword in keywords)
    return (
        not keywords or any(keyword in case_id for keyword in keywords) or any(fnmatchcase(case_id, g) for g in globs)
    )
