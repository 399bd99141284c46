"""Commands that a reader is told to type, written so that they can be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def command_line(words: Sequence[str], encoding: str = "utf-8") -> str:
    """``words`` as one line of a POSIX shell.

    A word with a control character, a byte that is not UTF-8, or a letter that ``encoding`` lacks, is written in
    ``$'...'``, which bash, zsh, ksh and POSIX 2024 read: nothing of it reaches a terminal as more than text.
    """
    return " ".join(_word(word, encoding) for word in words)


def as_argument(path: str) -> str:
    """``path`` as a word that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def explain_words(case: str, target: str, folder: str | None = None, *, allow_import: bool = False) -> tuple[str, ...]:
    """The words of ``harness explain``; ``folder`` is where the case is looked for, ``specs`` where there is none."""
    places = [case] if folder is None else [case, folder]
    options = ["--allow-import"] if allow_import else []
    if any(place.startswith("-") for place in places):
        return ("harness", "explain", "--target", target, *options, "--", *places)
    return ("harness", "explain", case, "--target", target, *places[1:], *options)


def resume_words(words: Sequence[str]) -> tuple[str, ...]:
    """``harness`` with ``words``, its command first, and ``--resume`` where that is not among them."""
    command, *rest = words
    options = rest[: rest.index("--")] if "--" in rest else rest
    return ("harness", command, *([] if "--resume" in options else ["--resume"]), *rest)


def _word(word: str, encoding: str) -> str:
    if word.isprintable() and _holds(encoding, word):
        return shlex.quote(word)
    return "$'" + "".join(map(_byte, word.encode("utf-8", "surrogateescape"))) + "'"


def _holds(encoding: str, word: str) -> bool:
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _byte(byte: int) -> str:
    """One byte within ``$'...'``. What ends at two hexadecimal digits takes no letter that follows."""
    char = chr(byte)
    return char if " " <= char <= "~" and char not in "'\\" else f"\\x{byte:02x}"
