"""What the Python API answers: each says whether it passed, in words why not, and can be asserted."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.wording import explanation, numbers, outcome, telling, verdict, wrong
from harness.result import OutputComparison, Report, Result


class Answer:
    """Something that passed or did not. It is true where it passed, so that ``assert harness.verify(...)`` means it."""

    __slots__ = ()

    @property
    def passed(self) -> bool:
        """True where all of it is as it should be."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """What is wrong, one line for each; or that nothing is."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return self.message

    def assert_passed(self) -> None:
        """Raise ``AssertionError`` with :attr:`message` unless it passed."""
        if not self.passed:
            raise AssertionError(self.message)


@dataclass(frozen=True, slots=True, repr=False)
class Verified(Answer):
    """A module on some targets: a :class:`harness.result.Result` for each, in their order."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """True where every target was verified and agrees; one that is not on this machine was not verified."""
        return bool(self.results) and all(result.status == "passed" for result in self.results)

    @property
    def message(self) -> str:
        """What is wrong, one line for each target; or that nothing is."""
        short = [result for result in self.results if result.status != "passed"]
        return "\n".join(map(told, short)) or f"agrees on {', '.join(result.target for result in self.results)}"

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Compared(Answer):
    """Outputs held against expected ones: a comparison for each, and what is wrong with the answer as a whole."""

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True where something was compared and nothing is wrong."""
        return bool(self.outputs) and not self.problems and all(output.passed for output in self.outputs)

    @property
    def message(self) -> str:
        """What is wrong, one line for each; or how near the outputs are."""
        short = [output for output in self.outputs if not output.passed]
        lines = [*self.problems, *(f"{output.name}: {numbers(output)}" for output in short or self.outputs)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Ran(Report, Answer):
    """The judged report of a run. ``exit_code`` is what ``harness run`` would have left with."""

    exit_code: int = 2

    @property
    def passed(self) -> bool:
        """True where every check is as expected, and something was compared."""
        return self.exit_code == 0

    @property
    def message(self) -> str:
        """The verdict, then one line for each check that is not as expected."""
        return "\n".join([verdict(self), *map(told, wrong(self.results))])

    def __repr__(self) -> str:
        return f"<{verdict(self)}>"


def told(result: Result) -> str:
    """One check in one line: where, what it came to, by how much, and whose fault it is."""
    comparison = telling(result)
    how = explanation(result) if comparison is None or comparison.passed else numbers(comparison)
    blame = f" (blame: {result.blame})" if result.blame else ""
    return f"{result.target}: {outcome(result)}{blame}: {how}"
