"""What ``report.html`` holds: the data of every check, packed small, and the assets that show it.

What takes room: pictures, scripts and logs. The most urgent checks have theirs, as far as the page has room.

Many alike records in little room: each distinct value is written once, and a record says where its own stand.

All that the page's script works on, as one value that JSON can hold.

``report.html``: one file that needs no other, no network and no server; to be opened, searched, printed and sent.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from harness.report.html.page import NUMBERS, comparison, fields, headline
from harness.report.machines import about
from harness.report.tables import targets
from harness.report.wording import WRONG, bundle_of, printable, shortened
from harness.result import Report, Result, to_json

ROOM = 2_000_000
"""So many characters of the page are for what takes room; the page stays small enough to be sent."""

_LOG_LINES = 15
_LINE = 300

LEFT_OUT = "left out to keep this page small; report.json holds it"


def heavy(results: Sequence[Result]) -> dict[int, Mapping[str, Any]]:
    """By the number of the check: its ``log``, ``script`` and ``pictures``; or ``left_out``, which says so.

    What is wrong comes before what is known, and that before all else. What several checks share takes room once.
    """
    shown: dict[int, Mapping[str, Any]] = {}
    counted: set[str] = set()
    left = ROOM
    for number in sorted(range(len(results)), key=lambda number: _urgency(results[number])):
        parts = dict(_parts(results[number]))
        if not parts:
            continue
        new = {json.dumps(part) for part in parts.values()} - counted
        size = sum(map(len, new))
        if size > left:
            shown[number] = {"left_out": f"{', '.join(parts)}: {LEFT_OUT}"}
            continue
        left -= size
        counted |= new
        shown[number] = parts
    return shown


def _urgency(result: Result) -> int:
    return 0 if result.status in WRONG else 1 if result.status == "known" else 2


def _parts(result: Result) -> Iterator[tuple[str, Any]]:
    if result.log:
        yield "log", list(_end(result.log))
    if result.reproduction:
        yield "script", result.reproduction
    if result.pictures:
        yield "pictures", to_json(result.pictures)


def _end(lines: Sequence[str]) -> Iterator[str]:
    """The end of what the libraries printed; an error stands at the end of it."""
    left = len(lines) - _LOG_LINES
    if left > 0:
        yield f"... {left:,} earlier lines are in report.json"
    yield from (shortened(line, _LINE) for line in lines[-_LOG_LINES:])


class Packing:
    """Collects values; ``values`` holds each distinct one once, in the order of their first use.

    What two targets say of one case is often the same to the letter, and most of what a passing check has to say is
    what a hundred others say too.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Where ``value``, which JSON can hold, stands in ``values``."""
        text = json.dumps(value, allow_nan=False)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]

    def record(self, fields: Mapping[str, Any]) -> list[int]:
        """The places of all of ``fields``, in their order."""
        return [self.place(value) for value in fields.values()]


def page_data(report: Report) -> dict[str, Any]:
    """The checks in the report's order: each is a list of places in ``values``, one for each of ``fields``."""
    packing = Packing()
    shown = heavy(report.results)
    allow_import, bundle = bool(report.run.get("allow_import")), bundle_of(report.run)
    names: list[str] = []
    checks = []
    for number, result in enumerate(report.results):
        told = fields(result, shown.get(number, {}), allow_import=allow_import, bundle=bundle)
        names = names or list(told)
        checks.append(packing.record(told))
    return {
        "targets": targets(report.results),
        "machines": list(report.run.get("machines", ())),
        "numbers": NUMBERS,
        "comparison": to_json(comparison(report.run.get("comparison"))),
        "fields": names,
        "checks": checks,
        "values": packing.values,
    }


class HtmlReport:
    """The head of the page is there without scripts; the rest is made in the browser from data that stand in it once.

    Text of the report is escaped by jinja2, and the script puts it into text nodes only. The page's policy lets
    nothing but its own style and script take effect and nothing be loaded: a hostile case name stays a name.
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
                environment=[(printable(name), printable(value)) for name, value in about(report)],
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
    # `tojson` escapes what would end the element that it stands in.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment


@cache
def _asset(name: str) -> str:
    return _environment().get_template(name).render()


def _hash(text: str) -> str:
    """The source by which a Content-Security-Policy lets ``text`` take effect, and nothing else."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
