"""``report.json``: all of a run; every other format is made from what stands here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Location, Problem, SpecError
from harness.result import Report, Result, to_json
from harness.spec.json_file import read_json, refused

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
"""The version of the file's layout; a key that is only added does not change it."""

_RIGHT = "give a report.json that `harness run` wrote"


class JsonReport:
    """The Contract's ``report.json``, with ``run`` beside it; keys stand in the order of the dataclasses."""

    name = "json"
    suffix = ".json"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return "".join(self.parts(report))

    def parts(self, report: Report) -> Iterator[str]:
        """Result by result: a whole run at once would take many times the room of its file."""
        whole = {
            "format": FORMAT,
            "environment": to_json(report.environment),
            "summary": report.summary,
            "run": to_json(report.run),
            "results": [],
        }
        yield _text(whole).removesuffix("[]\n}")
        before = "[\n  "
        for result in report.results:
            yield before
            yield _text(to_json(result)).replace("\n", "\n  ")
            before = ",\n  "
        yield "\n ]\n}\n" if report.results else "[]\n}\n"


def _text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


PROVIDES = (JsonReport(),)


def read_report(path: Path) -> Report:
    """The :class:`Report` that :class:`JsonReport` wrote to ``path``.

    Keys that this version does not know are passed over. Raises :class:`SpecError`, one line a
    problem, where the file is missing, cut short, of a newer format, or not such a report.
    """
    raw = _whole(path)
    newest = raw.get("format")
    if type(newest) is not int or newest < 1:
        raise refused(path, "this is not a harness report: it has no `format` number", _RIGHT)
    if newest > FORMAT:
        raise refused(path, f"this report is of format {newest}", f"this harness reads format {FORMAT}; update it")
    if not isinstance(raw.get("results"), list):
        raise refused(path, "this is not a harness report: it has no list of `results`", _RIGHT)
    report = Report(_mapping(path, raw, "environment"), _results(path, raw), _mapping(path, raw, "run"))
    if "summary" in raw and raw["summary"] != report.summary:
        raise refused(path, "`summary` does not count the results that stand below it", _RIGHT)
    return report


def _whole(path: Path) -> dict[str, Any]:
    raw = read_json(path, "the report", _RIGHT)
    if not isinstance(raw, dict):
        raise refused(path, "this is not a harness report: it is not a JSON object", _RIGHT)
    return raw


def _results(path: Path, raw: dict[str, Any]) -> tuple[Result, ...]:
    from pydantic import ValidationError

    from harness.report.open_parts import OpenParts

    try:
        OpenParts.model_validate(raw)
        return tuple(_adapter().validate_python(raw["results"]))
    except ValidationError as error:
        raise SpecError(
            Problem(Location(str(path)), f"{_place(problem['loc'], raw)}: {problem['msg']}", _RIGHT)
            for problem in error.errors(include_url=False, include_input=False)
        ) from error


def _place(keys: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """``results[0].latency.median_us``."""
    told = keys if keys and keys[0] in raw else ("results", *keys)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in told).removeprefix(".")


@cache
def _adapter() -> TypeAdapter[list[Result]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Result])


def _mapping(path: Path, raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise refused(path, f"`{key}` is not an object", _RIGHT)
    return value
