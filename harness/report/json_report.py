"""``report.json``: all of a run; every other format is made from what stands here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Location, Problem, SpecError
from harness.result import Report, Result, to_json

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
        raise _refused(path, "this is not a harness report: it has no `format` number", _RIGHT)
    if newest > FORMAT:
        raise _refused(path, f"this report is of format {newest}", f"this harness reads format {FORMAT}; update it")
    results = _results(path, raw.get("results"))
    report = Report(_mapping(path, raw, "environment"), results, _mapping(path, raw, "run"))
    if "summary" in raw and raw["summary"] != report.summary:
        raise _refused(path, "`summary` does not count the results that stand below it", _RIGHT)
    return report


def _whole(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})", _RIGHT) from error
    except json.JSONDecodeError as error:
        what = "the report is cut short or broken" if error.pos else "this is not JSON"
        raise _refused(path, f"{what} ({error.msg})", _RIGHT, error.lineno, error.colno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _refused(path, "this is not a JSON text that can be read", _RIGHT) from error
    if not isinstance(raw, dict):
        raise _refused(path, "this is not a harness report: it is not a JSON object", _RIGHT)
    return raw


def _results(path: Path, raw: object) -> tuple[Result, ...]:
    from pydantic import ValidationError

    if not isinstance(raw, list):
        raise _refused(path, "this is not a harness report: it has no list of `results`", _RIGHT)
    try:
        return tuple(_adapter().validate_python(raw))
    except ValidationError as error:
        raise SpecError(
            Problem(
                Location(str(path)),
                f"results{''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in problem['loc'])}: "
                f"{problem['msg']}",
                _RIGHT,
            )
            for problem in error.errors(include_url=False, include_input=False)
        ) from error


@cache
def _adapter() -> TypeAdapter[list[Result]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Result])


def _mapping(path: Path, raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise _refused(path, f"`{key}` is not an object", _RIGHT)
    return value


def _refused(path: Path, wrong: str, right: str, line: int = 1, column: int = 1) -> SpecError:
    return SpecError([Problem(Location(str(path), line, column), wrong, right)])
