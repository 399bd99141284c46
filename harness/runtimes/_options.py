"""What a target may set after the question mark: each key with its values, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from harness.errors import UsageError

_DIGITS = 9  # of a number: what any runtime takes for one


@dataclass(frozen=True, slots=True)
class Choice:
    """One key: what it does, the values that it takes, and the one that holds where it is not set.

    With ``several``, values may be joined by commas. Where ``values`` is empty, a positive whole number is taken.
    """

    about: str
    default: str
    values: tuple[str, ...] = ()
    several: bool = False

    def __str__(self) -> str:
        taken = "|".join(self.values) or "a positive whole number"
        return f"{self.about}: {taken} (default {self.default or 'none'})"

    def read(self, key: str, text: str) -> str:
        """``text`` itself; raises :class:`UsageError` where the key does not take it."""
        if not self.values:
            digits = text.lstrip("0")
            if text.isascii() and text.isdecimal() and 0 < len(digits) <= _DIGITS:
                return digits
            raise UsageError(f"option {key}={text}: not a number of {key}; a positive whole number below 10^{_DIGITS}")
        for part in text.split(",") if self.several else (text,):
            if part not in self.values:
                raise UsageError(
                    f"option {key}={text}: no such value; one of {', '.join(self.values)}{_hint(part, self)}"
                )
        return text


def settle(runtime: str, choices: Mapping[str, Choice], options: Mapping[str, str]) -> dict[str, str]:
    """The value of every key, with the defaults for those that ``options`` leaves out.

    Raises :class:`UsageError` for a key that ``runtime`` does not have and for a value that the key does not take.
    """
    for key in options:
        if key not in choices:
            near = get_close_matches(key, choices, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(choices) or 'none'}"
            raise UsageError(f"option {key}: {runtime} has no such option{meant}")
    return {
        key: choice.read(key, options[key]) if key in options else choice.default for key, choice in choices.items()
    }


def _hint(part: str, choice: Choice) -> str:
    near = get_close_matches(part, choice.values, 1)
    return f"; did you mean {near[0]}?" if near else ""


THREADS = Choice("threads that one operator may use", "1")
