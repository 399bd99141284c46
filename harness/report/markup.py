"""Text that came from elsewhere (ids, messages, logs), made safe to stand in Markdown.

Python has no well-kept library for this direction. The rule is CommonMark's own: any ASCII
punctuation may be escaped by a backslash; only what would mean something is, so that the file
reads well unrendered too. GitHub's tables cut cells at an unescaped ``|``, even inside a code span.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from harness.report.wording import one_line, printable

_MEANS_SOMETHING = re.compile(
    r"""
    [\\`*\[<|$]              # anywhere
    | (?<![^\W_])_ | _(?![^\W_])  # emphasis; an underscore within a name is a letter
    | ~(?=~) | (?<=~)~       # strikethrough
    | &(?=\#?\w+;)           # a character reference
    | ^[#>]                  # a heading, a quotation
    | ^[+-](?=[\s-]|$)       # a list, a rule
    | ^\d{1,9}[.)](?=\s|$)   # a numbered list
    """,
    re.VERBOSE,
)
_NO_CODE_SPAN = re.compile(r"[|`\\]|^$")
_ADDRESS = re.compile(r"https?://[^\s<>|`\\]+")


def plain(text: str) -> str:
    """``text`` on one line, read back by a Markdown reader exactly as it stands."""
    return _MEANS_SOMETHING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", printable(one_line(text)))


def code(text: str) -> str:
    """``text`` as a code span, or escaped where a code span in a table could not hold it."""
    line = printable(one_line(text))
    return plain(line) if _NO_CODE_SPAN.search(line) else f"`{line}`"


def command(text: str) -> str:
    """A command as a code span that holds it letter for letter, backticks and blanks included; not for a table."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, blank = "`" * (longest + 1), " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def link(text: str) -> str:
    """``text`` as a link where it is an address, else as it stands."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else plain(text)


def fenced(text: str) -> str:
    """``text`` as a block, in a fence longer than any that it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; every cell must be safe already. Figures stay as they are written."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
