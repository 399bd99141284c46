"""``report.html``: one self-contained file that needs no network and no server, to open, search, print and send.

The page is assembled from the assets in ``assets/`` and one JSON value with the data of every check
(:func:`page_data`):

- Each distinct value is stored once, and a check is a list of positions of values (:class:`ValueTable`).
- Logs, scripts and pictures are large. They are included for the most urgent checks, up to a limit
  (:func:`attachments`).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from harness.errors import printable, shortened
from harness.report.html.checks import FIGURE, NUMBERS, TIMED, cause_fields, check_fields
from harness.report.html.page import comparison_fields, headline
from harness.report.layers import LAYER_FIELDS, layers_as_json
from harness.report.machines import environment_rows
from harness.report.tables import targets
from harness.report.tables.latency import model_times
from harness.report.wording import UNEXPECTED
from harness.result import Report, Result, to_json

ATTACHMENTS_SIZE = 2_000_000
"""Characters of the page for logs, scripts and pictures, so that the page stays small enough to send."""

LEFT_OUT = "left out to keep this page small; see report.json"

_LEVELS = 3
"""The levels of a file in the artifact cache: a folder, the folder of its entry, and the file."""

_LOG_LINES = 15
_MAX_LOG_LINE = 300


class HtmlReport:
    """The top of the page needs no script; the rest is built in the browser from the data, which the page holds once.

    Jinja2 escapes the report's texts, and the script puts them into text nodes only. The Content-Security-Policy of
    the page allows its own style and script and nothing else, and nothing is loaded: a hostile case name stays a name.
    """

    name = "html"
    suffix = ".html"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        style, script = _asset("styles.css"), _asset("scripts.js")
        return (
            _environment()
            .get_template("page.html")
            .render(
                style=style,
                style_hash=_hash(style),
                script=script,
                script_hash=_hash(script),
                head=headline(report),
                data=page_data(report),
                environment=[(printable(name), printable(value)) for name, value in environment_rows(report)],
            )
        )


PROVIDES = (HtmlReport(),)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report.html", "assets"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` escapes what would end the element that contains it.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment


@cache
def _asset(name: str) -> str:
    return _environment().get_template(name).render()


def _hash(text: str) -> str:
    """The source expression with which a Content-Security-Policy allows ``text``."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def page_data(report: Report) -> dict[str, Any]:
    """The data of the page's script, in types that JSON has.

    ``checks`` are in the report's order. Each is a list of positions in ``values``, one for each of ``fields``.
    """
    table = ValueTable()
    kept_in = _cache_folder(result.artifact_path for result in report.results)
    attached = attachments(report.results)
    names: list[str] = []
    checks = []
    for number, result in enumerate(report.results):
        fields = check_fields(result, attached.get(number, {}), report.run)
        if kept_in and fields["file"]:
            fields["file"] = fields["file"].removeprefix(kept_in)
        names = names or list(fields)
        checks.append(table.record(fields))
    return {
        "targets": targets(report.results),
        "machines": list(report.run.get("machines", ())),
        "kept_in": kept_in,
        "causes": cause_fields(report.results),
        "numbers": NUMBERS,
        "figure": FIGURE,
        "timed": TIMED,
        "layer_fields": LAYER_FIELDS,
        "model_times": [
            {"spec": times.spec, "targets": times.targets, "rows": list(times.rows())}
            for times in model_times(report.results)
        ],
        "comparison": to_json(comparison_fields(report.run.get("comparison"))),
        "fields": names,
        "checks": checks,
        "values": table.values,
    }


def _cache_folder(paths: Iterable[str | None]) -> str:
    """The cache's folder if all ``paths`` are in one, so that it is not written ten thousand times; else empty."""
    folders = {"/".join([*path.split("/")[:-_LEVELS], ""]) for path in paths if path}
    return folders.pop() if len(folders) == 1 else ""


class ValueTable:
    """Stores values; ``values`` has each distinct one once, in the order of first use.

    Two targets often say the same of one case, and a hundred passing checks say nearly the same.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._positions: dict[str, int] = {}

    def position(self, value: Any) -> int:
        """The index of ``value``, which must be of a type that JSON has, in ``values``."""
        text = json.dumps(value, allow_nan=False)
        if text not in self._positions:
            self._positions[text] = len(self.values)
            self.values.append(value)
        return self._positions[text]

    def record(self, fields: Mapping[str, Any]) -> list[int]:
        """The positions of the values of ``fields``, in their order."""
        return [self.position(value) for value in fields.values()]


def attachments(results: Sequence[Result]) -> dict[int, Mapping[str, Any]]:
    """By the number of the check: its ``log``, ``script`` and ``pictures``, or a sentence under ``left_out``.

    Unexpected checks come first, then known failures, then the rest. What several checks share counts once.
    """
    attached: dict[int, Mapping[str, Any]] = {}
    counted: set[str] = set()
    left = ATTACHMENTS_SIZE
    for number in sorted(range(len(results)), key=lambda number: _urgency(results[number])):
        parts = dict(_attachments_of(results[number]))
        if not parts:
            continue
        new = {json.dumps(part) for part in parts.values()} - counted
        size = sum(map(len, new))
        if size > left:
            attached[number] = {"left_out": f"{', '.join(parts)}: {LEFT_OUT}"}
            continue
        left -= size
        counted |= new
        attached[number] = parts
    return attached


def _urgency(result: Result) -> int:
    return 0 if result.status in UNEXPECTED else 1 if result.status == "known" else 2


def _attachments_of(result: Result) -> Iterator[tuple[str, Any]]:
    if result.log:
        yield "log", list(_last_lines(result.log))
    if result.reproduction:
        yield "script", result.reproduction
    if result.pictures:
        yield "pictures", to_json(result.pictures)
    if layers := layers_as_json(result):
        yield "layers", layers


def _last_lines(lines: Sequence[str]) -> Iterator[str]:
    """The last lines that the libraries printed; an error is at the end."""
    left = len(lines) - _LOG_LINES
    if left > 0:
        yield f"... {left:,} earlier lines are in report.json"
    yield from (shortened(line, _MAX_LOG_LINE) for line in lines[-_LOG_LINES:])
