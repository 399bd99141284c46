"""The report on the mutants: rooms, shares, survivors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.mutants.argued import Argument
from benchmarks.mutants.made import SEED, Mutant
from benchmarks.mutants.rooms import Room
from benchmarks.mutants.trial import Outcome

LEAST = 0.92
"""The share of the mutants of each room that its tests must kill."""


@dataclass(frozen=True, slots=True)
class RoomResult:
    """What came of the drawn mutants of a room, out of ``available`` ones; only those tried count.

    ``untried`` were drawn too.
    """

    room: Room
    available: int
    tried: Sequence[tuple[Mutant, Outcome]]
    arguments: Sequence[Argument] = ()
    untried: int = 0

    @property
    def survivors(self) -> list[tuple[Mutant, Argument | None]]:
        """The mutants that no test noticed, each with its argument if it has one."""
        return [
            (mutant, next((each for each in self.arguments if each.is_about(mutant)), None))
            for mutant, outcome in self.tried
            if not outcome.noticed
        ]

    @property
    def killed(self) -> int:
        """How many mutants a test noticed."""
        return len(self.tried) - len(self.survivors)

    @property
    def share(self) -> float:
        """Killed of all tried; an argued survivor counts as survived all the same."""
        return self.killed / len(self.tried) if self.tried else 0.0

    @property
    def problems(self) -> list[str]:
        """Why the room does not hold; empty where it does."""
        found = [
            f"{mutant.file}:{mutant.line}: survived without an argument: {mutant.was} -> {mutant.now}"
            for mutant, argument in self.survivors
            if argument is None
        ]
        if not self.tried:
            found.append(f"{self.room.name}: no mutant was tried")
        elif self.share < LEAST:
            found.append(f"{self.room.name}: {self.killed} of {len(self.tried)} killed, less than {LEAST:.0%}")
        return found


def markdown(results: Sequence[RoomResult], versions: Mapping[str, str]) -> str:
    """The report."""
    made = sum(len(result.tried) for result in results)
    killed = sum(result.killed for result in results)
    by_time = sum(outcome.outcome == "timeout" for result in results for _, outcome in result.tried)
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    share = killed / made if made else 0.0
    available = sum(result.available for result in results)
    lines = [
        "# Mutants",
        "",
        f"**{killed} of {made} mutants were killed ({share:.1%}), {made - killed} survived.** A mutant is harness with",
        "one comparison, boolean, operation or number changed, by an operator of cosmic-ray. It is killed where a test",
        f"of its room fails; {by_time} of the killed did not come to an end. Each room must kill at least {LEAST:.0%},",
        "and each survivor must be argued to be equivalent in `benchmarks/mutants/argued.yaml`.",
        "",
        f"Drawn with seed {SEED} from {available} mutants; {libraries}.{_untried(results)}",
        "",
        _table(results),
    ]
    for result in results:
        if result.survivors:
            lines += ["", f"## Survivors: {result.room.name}", ""]
            for mutant, argument in sorted(result.survivors, key=lambda pair: (pair[0].file, pair[0].line)):
                why = " ".join(argument.why.split()) if argument else "**no argument**"
                lines += [f"- `{mutant.file}:{mutant.line}` `{mutant.was}` -> `{mutant.now}`: {why}"]
    return "\n".join([*lines, "", "## Rooms", "", _rooms(results), ""])


def _untried(results: Sequence[RoomResult]) -> str:
    left = sum(result.untried for result in results)
    return f" {left} more were drawn and not tried yet." if left else ""


def _table(results: Sequence[RoomResult]) -> str:
    header = ["room", "decides", "available", "untried", "made", "killed", "survived", "share"]
    rows = [
        [
            result.room.name,
            result.room.decides,
            result.available,
            result.untried,
            len(result.tried),
            result.killed,
            len(result.survivors),
            f"{result.share:.1%}" if result.tried else "-",
        ]
        for result in results
    ]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True, colalign=("left", "left", *["right"] * 6))


def _rooms(results: Sequence[RoomResult]) -> str:
    names = [(each.room.name, " ".join(each.room.files), " ".join(each.room.tests)) for each in results]
    rows = [[room, f"`{files}`", f"`{tests}`"] for room, files, tests in names]
    return tabulate(rows, ["room", "files", "tests"], tablefmt="github")
