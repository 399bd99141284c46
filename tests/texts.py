"""Text snapshots, one file each, and the texts in the HTML page's assets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

import harness

ASSETS = Path(harness.__file__).parent / "report" / "html" / "assets"


class TextFile(SingleFileSnapshotExtension):
    """One text file per test: ``test_help[run]`` is compared with ``test_help[run].txt``."""

    _write_mode = WriteMode.TEXT
    file_extension = "txt"


class MarkdownFile(TextFile):
    """One Markdown file per test, which viewers can render."""

    file_extension = "md"


def stable(text: str, folder: Path | None = None) -> str:
    """Return ``text`` without ``folder``, control sequences and trailing blanks, which differ from run to run."""
    text = text if folder is None else text.replace(str(folder), "FOLDER")
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


# The HTML page: visible texts, tooltips and names for screen readers, as in the assets

READ_ALOUD = {"aria-label", "title", "placeholder", "data-label"}
JINJA = re.compile(r"{%.*?%}|{#.*?#}", re.DOTALL)


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in {"style", "script"}
        self.texts += [value for name, value in attrs if name in READ_ALOUD and value]

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the base class's signature
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.texts.append(data)


def page_texts() -> Iterator[str]:
    """Yield the texts of the template; placeholders are in double braces."""
    parser = _Texts()
    parser.feed(JINJA.sub("", (ASSETS / "page.html").read_text(encoding="utf-8")))
    texts = (" ".join(text.split()) for text in parser.texts)
    yield from dict.fromkeys(text for text in texts if re.search(r"[A-Za-z]{3}", re.sub(r"{{.*?}}", "", text)))


ATTRIBUTES = r"(?:class|id|d|role|type|name|scope|href|rel|fill|viewBox|preserveAspectRatio|visibility|autocomplete)"
CALLS = r"(?:h|s|icon|has|get|closest|querySelector|addEventListener|setAttribute|getElementById|toLocaleString)"
NOT_READ = re.compile(rf"(?:\b{ATTRIBUTES}:|\"(?:aria-(?!label)|text-|data-)[a-z-]+\":|\b{CALLS}\(|[!=]==)\s*$")
"""The code before a string that users do not see: the value of an attribute, the name of an element or an event."""

LETTERS = re.compile(r"[A-Za-z]{2}")
NOT_TEXT = re.compile(r"^(?:[.#]|\w+\(|https?:|series-)")
ONE_WORD = re.compile(r"[a-z-]+")
READ_WORD = re.compile(r"(?:[\[,]|\w:)\s*$")
"""The code before a single word that users see: an item of a list or the child of an element. Others are classes."""


def script_texts() -> Iterator[str]:
    """Yield the texts in the scripts, file by file; ``{}`` replaces a value."""
    for path in sorted((ASSETS / "scripts").glob("*.js")):
        strings = _strings(path.read_text(encoding="utf-8"))
        texts = dict.fromkeys(text for before, text, after in strings if _is_read(before, text, after))
        if texts:
            yield f"# {path.name}"
            yield from texts


def _is_read(before: str, text: str, after: str) -> bool:
    if after.startswith(":") or NOT_READ.search(before) or NOT_TEXT.search(text) or not LETTERS.search(text):
        return False
    return not ONE_WORD.fullmatch(text) or bool(READ_WORD.search(before))


def _strings(code: str) -> Iterator[tuple[str, str, str]]:
    """Yield every string and template of ``code`` with the code before and after it, outer ones first."""
    at = 0
    while at < len(code):
        if code.startswith("//", at):
            at = code.find("\n", at)
        elif code[at] == '"':
            end = re.compile(r'(?:\\.|[^"\\])*"').match(code, at + 1)
            assert end is not None
            yield code[:at], code[at + 1 : end.end() - 1].encode().decode("unicode_escape"), code[end.end() :]
            at = end.end()
            continue
        elif code[at] == "`":
            text, expressions, end_at = _template(code, at + 1)
            yield code[:at], text, code[end_at:]
            for expression in expressions:
                yield from _strings(expression)
            at = end_at
            continue
        at += 1


def _template(code: str, at: int) -> tuple[str, list[str], int]:
    """Return the text of the template that begins at ``at``, its expressions, and the index after it."""
    text, expressions = "", []
    while code[at] != "`":
        if not code.startswith("${", at):
            text, at = text + code[at], at + 1
            continue
        begin, depth, at = at + 2, 1, at + 2
        while depth:
            if code[at] == "`":
                at = _template(code, at + 1)[2]
                continue
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            at += 1
        text += "{}"
        expressions.append(code[begin : at - 1])
    return text, expressions, at + 1
