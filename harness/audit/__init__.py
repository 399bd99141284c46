"""The audit of the specs: mutants (wrong layers) replace each layer in turn. The result, and its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

MAX_NAMES = 3
"""The maximum number of cases or mutants that one row of a table names."""


@dataclass(frozen=True, slots=True)
class MutantOutcome:
    """One mutant in one case. ``why_equivalent`` says why no input could kill it; None if some input could."""

    case: str
    layer: str
    mutant: str
    killed: bool
    why_equivalent: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcomes of all mutants in all cases; ``not_audited`` gives the reason for each case without mutants."""

    outcomes: tuple[MutantOutcome, ...]
    not_audited: Mapping[str, str] = field(default_factory=dict)

    @property
    def killable(self) -> tuple[MutantOutcome, ...]:
        """The outcomes of mutants that some input could kill."""
        return tuple(outcome for outcome in self.outcomes if outcome.why_equivalent is None)

    @property
    def cases_without_kill(self) -> tuple[str, ...]:
        """Cases that kill none of their mutants, although some input could."""
        killing = {outcome.case for outcome in self.killable if outcome.killed}
        return tuple(dict.fromkeys(outcome.case for outcome in self.killable if outcome.case not in killing))

    @property
    def surviving_mutants(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """The mutants that no case kills, by layer and name, with the cases that they were tried in."""
        killed = {(outcome.layer, outcome.mutant) for outcome in self.killable if outcome.killed}
        cases: dict[tuple[str, str], dict[str, None]] = {}
        for outcome in self.killable:
            if (outcome.layer, outcome.mutant) not in killed:
                cases.setdefault((outcome.layer, outcome.mutant), {})[outcome.case] = None
        return {mutant: tuple(names) for mutant, names in cases.items()}

    @property
    def passed(self) -> bool:
        """True if some mutant was tried, every case kills a mutant, and every mutant is killed by a case."""
        return bool(self.killable) and not self.cases_without_kill and not self.surviving_mutants

    def by_layer(self) -> Iterator[tuple[str, tuple[MutantOutcome, ...]]]:
        """Every layer with the outcomes of its mutants, in the order of the specs."""
        for layer in dict.fromkeys(outcome.layer for outcome in self.outcomes):
            yield layer, tuple(outcome for outcome in self.outcomes if outcome.layer == layer)


def text(audit: Audit) -> str:
    """The whole result, with the verdict as the last line."""
    return "\n".join(
        [
            _table_by_layer(audit),
            *_equivalent_mutants(audit),
            *_cases_not_audited(audit),
            *_survivors(audit),
            "",
            verdict(audit),
        ]
    )


def verdict(audit: Audit) -> str:
    """The result in one line."""
    if not audit.killable:
        return "nothing was audited: these cases have no mutant that an input could kill"
    mutants = {(outcome.layer, outcome.mutant) for outcome in audit.killable}
    cases = {outcome.case for outcome in audit.killable}
    survived, without_kill = len(audit.surviving_mutants), len(audit.cases_without_kill)
    return (
        f"{len(mutants) - survived} of {len(mutants)} mutants killed, {survived} survived; "
        f"{len(cases) - without_kill} of {len(cases)} cases kill at least one mutant"
    )


def _table_by_layer(audit: Audit) -> str:
    rows = []
    for layer, outcomes in audit.by_layer():
        killable = [outcome for outcome in outcomes if outcome.why_equivalent is None]
        mutants = {outcome.mutant for outcome in killable}
        survivors = [mutant for name, mutant in audit.surviving_mutants if name == layer]
        rows.append(
            (
                layer,
                len({outcome.case for outcome in outcomes}),
                len(mutants) - len(survivors),
                len(mutants),
                sum(outcome.killed for outcome in killable),
                len(killable),
                len(outcomes) - len(killable),
            )
        )
    headers = ("layer", "cases", "mutants killed", "of", "kills in single cases", "of", "equivalent")
    return tabulate(rows, headers=headers)


def _equivalent_mutants(audit: Audit) -> Iterator[str]:
    equivalent = [outcome for outcome in audit.outcomes if outcome.why_equivalent is not None]
    counts = Counter((outcome.layer, outcome.why_equivalent) for outcome in equivalent)
    if counts:
        rows = [(layer, count, reason) for (layer, reason), count in counts.items()]
        yield "\nEquivalent mutants, which no input could kill:\n" + tabulate(
            rows, headers=("layer", "count", "reason")
        )


def _cases_not_audited(audit: Audit) -> Iterator[str]:
    for reason, count in Counter(audit.not_audited.values()).items():
        yield f"\n{count} {'case' if count == 1 else 'cases'} not audited: {reason}"


def _survivors(audit: Audit) -> Iterator[str]:
    if audit.surviving_mutants:
        rows = [(layer, mutant, _shortened(cases)) for (layer, mutant), cases in audit.surviving_mutants.items()]
        yield "\nMutants that no case kills:\n" + tabulate(rows, headers=("layer", "mutant", "tried in"))
    if audit.cases_without_kill:
        pairs = [(case, _shortened(_mutants_in(audit, case))) for case in audit.cases_without_kill]
        yield "\nCases that kill no mutant:\n" + tabulate(pairs, headers=("case", "surviving mutants"))


def _mutants_in(audit: Audit, case: str) -> list[str]:
    return [outcome.mutant for outcome in audit.killable if outcome.case == case]


def _shortened(names: Sequence[str]) -> str:
    further = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {further} more" if further > 0 else "")
