"""Commands for the reader to type, quoted so that they can be pasted into a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from harness.errors import unescape_path
from harness.result import Result
from harness.spec.targets import FILE

_POSITION = re.compile(r"(:\d+)+$")
"""The line and the column after the name of a file."""


def command_line(words: Sequence[str], encoding: str = "utf-8") -> str:
    """``words`` as one line of a POSIX shell.

    A word is written as ``$'...'`` if it has a control character, a byte that is not UTF-8, or a letter that
    ``encoding`` lacks. bash, zsh, ksh and POSIX 2024 read that form, and a terminal sees nothing but text.
    """
    return " ".join(_quoted(word, encoding) for word in words)


def as_argument(path: str) -> str:
    """``path`` as a word that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def deciding_options(run: Mapping[str, Any]) -> list[str]:
    """The options of a run that decide whether a check fails, as words; ``run`` is that part of its report.

    Another command that is about the same failure needs them too.
    """
    flags = [f"--{name}" for name in ("layers", "strict") if run.get(name)]
    strict_ulp = run.get("strict_ulp")
    flags += [] if strict_ulp is None else ["--strict-ulp", str(strict_ulp)]
    return [*flags, *(["--allow-import"] if run.get("allow_import") else [])]


def explain_words(case: str, target: str, folder: str | None = None, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The words of ``harness explain``. ``folder`` is the folder of the specs; None is the default, ``specs``."""
    places = [case] if folder is None else [case, folder]
    if any(place.startswith("-") for place in places):
        return ("harness", "explain", "--target", target, *options, "--", *places)
    return ("harness", "explain", case, "--target", target, *places[1:], *options)


def given_path(result: Result, paths: Sequence[str]) -> str | None:
    """The one of ``paths``, as they were given to the run, that holds the spec of ``result``; None if none does.

    None for a recorded model too: :func:`specs_folder` names it without all else that was run.
    """
    if result.where is None or result.target.startswith(f"{FILE}/"):
        return None
    file = PurePath(unescape_path(_POSITION.sub("", result.where)))
    places = (text.partition("::")[0] for text in paths)
    return next((place for place in places if PurePath(place) in (file, *file.parents)), None)


def specs_folder(result: Result) -> str | None:
    """The folder of a result's specs: the file's path without the part that the id repeats; None if it repeats none.

    A recorded model in the working directory is named itself, without all else there.
    """
    if result.where is None:
        return None
    file = PurePath(_POSITION.sub("", result.where))
    is_recorded = result.target.startswith(f"{FILE}/")
    for named in file.parents if is_recorded else (file.with_suffix(""),):  # the file of a variant lies deeper
        for folder in reversed(named.parents):
            name = named.relative_to(folder).as_posix()
            if result.case == name or result.case.startswith((f"{name}[model=",) if is_recorded else (f"{name}/",)):
                is_beside = is_recorded and folder == PurePath() and named.name == name
                return unescape_path(str(named if is_beside else folder))
    return None


def resume_words(words: Sequence[str]) -> tuple[str, ...]:
    """``harness`` with ``words`` (the command first), and ``--resume`` unless it is among them."""
    command, *rest = words
    options = rest[: rest.index("--")] if "--" in rest else rest
    return ("harness", command, *([] if "--resume" in options else ["--resume"]), *rest)


def _quoted(word: str, encoding: str) -> str:
    if word.isprintable() and _can_encode(encoding, word):
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped_byte, word.encode("utf-8", "surrogateescape"))) + "'"


def _can_encode(encoding: str, word: str) -> bool:
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped_byte(byte: int) -> str:
    """One byte within ``$'...'``. The escape has exactly two hexadecimal digits, so that no letter can extend it."""
    char = chr(byte)
    return char if " " <= char <= "~" and char not in "'\\" else f"\\x{byte:02x}"
