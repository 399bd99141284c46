"""A JSON file that somebody gives: read whole, or refused in one line with its place.

The base of every model of outside data: unknown keys are refused, and each objection has its place in the file.
"""

from __future__ import annotations

import json
import os
import select
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from harness.errors import Location, Problem, SpecError
from harness.spec.quoting import shown, suggestion
from harness.spec.yaml.tree import Key, Node

if TYPE_CHECKING:
    from pydantic.functional_validators import ModelWrapValidatorHandler
    from typing_extensions import Self


LARGEST_FILE = 2**30
SECONDS_TO_OPEN = 2.0
"""How long a pipe may have nobody who writes to it."""
SECONDS_OF_SILENCE = 60.0
AT_ONCE = 2**20
DEEPEST = 64


def read_json(path: Path, what: str, right: str) -> Any:
    """What stands in the file at ``path``, which is ``what``; ``right`` says what would be.

    Raises :class:`SpecError` of one line where it cannot be read, is a device, is larger than 1 GiB, is cut short, is
    nested beyond all sense, or is no JSON. A pipe, as of ``<(...)`` in a shell, is read to its end, unless nobody
    writes to it.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise refused(path, "this is a device and no file", right)
        if stat.S_ISFIFO(kind):
            raw = _from_pipe(path)
        else:
            with path.open("rb") as file:
                raw = file.read(LARGEST_FILE + 1)
    except TimeoutError as error:
        raise refused(path, "this is a pipe that nobody writes to", right) from error
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})", right) from error
    if len(raw) > LARGEST_FILE:
        raise refused(path, f"larger than {LARGEST_FILE >> 30} GiB", right)
    try:
        found = json.loads(raw)
    except json.JSONDecodeError as error:
        wrong = f"{what} is cut short or broken" if error.pos else "this is not JSON"
        raise refused(path, f"{wrong} ({error.msg})", right, error.lineno, error.colno) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, a nest without end
        raise refused(path, "this is not a JSON text that can be read", right) from error
    if _is_deep(found):
        raise refused(path, f"{what} is nested more than {DEEPEST} deep", right)
    return found


def _is_deep(value: Any) -> bool:
    """Whether ``value`` is nested deeper than those who go through it level by level can bear."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [one for each in inner for one in each if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _from_pipe(path: Path) -> bytes:
    """All that is written to the pipe. Raises :class:`TimeoutError` where that is nothing, or nothing more comes."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for a writer without end
    try:
        parts: list[bytes] = []
        until = time.monotonic() + SECONDS_TO_OPEN
        while sum(map(len, parts)) <= LARGEST_FILE:
            try:
                parts.append(os.read(pipe, AT_ONCE))
            except BlockingIOError:
                if not select.select([pipe], [], [], SECONDS_OF_SILENCE)[0]:
                    raise TimeoutError from None
                continue
            if parts[-1]:
                continue
            if len(parts) > 1:
                break
            # Nobody has opened it to write, or somebody has and wrote nothing.
            if time.monotonic() > until:
                raise TimeoutError
            del parts[-1]
            time.sleep(0.01)
        return b"".join(parts)
    finally:
        os.close(pipe)


def refused(path: Path, wrong: str, right: str, line: int = 1, column: int = 1) -> SpecError:
    """The one thing that is wrong with the file at ``path``."""
    return SpecError([Problem(Location(str(path), line, column), wrong, right)])


def place_in(location: tuple[int | str, ...]) -> str:
    """``("cases", 0, "id")``, as pydantic has it, as ``cases[0].id``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    return "".join(parts).lstrip(".")


OBJECTION = "objection"
UNKNOWN_KEY = "unknown_key"


class Strict(BaseModel):
    """Nothing is converted, nothing is ignored, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),  # pydantic before 2.10 warns of every field whose name begins with "model_"
    )

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Keys that readers expect here, and where they belong."""

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Pydantic knows that a key is unknown; only the model knows which was meant."""
        try:
            return handler(data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise ValidationError.from_exception_data(error.title, [cls._explained(each) for each in details]) from None

    @classmethod
    def _explained(cls, detail: ErrorDetails) -> InitErrorDetails:
        kind: str | PydanticCustomError = detail["type"]
        context = dict(detail.get("ctx", {}))
        if kind == "extra_forbidden" and len(detail["loc"]) == 1:
            known = [field.alias or name for name, field in cls.model_fields.items()]
            key = str(detail["loc"][0])
            right = cls.elsewhere.get(key) or suggestion(key, known, f"known here: {', '.join(known)}")
            kind = PydanticCustomError(UNKNOWN_KEY, "unknown key", {"wrong": "unknown key", "right": right})
        elif kind == "missing" and len(detail["loc"]) == 1:
            named = next(f for n, f in cls.model_fields.items() if (f.alias or n) == detail["loc"][0])
            example = (named.examples or ["..."])[0]
            kind = PydanticCustomError("absent", "missing", {"example": f"{detail['loc'][0]}: {example}"})
        elif kind in CUSTOM:
            kind = PydanticCustomError(kind, "{wrong}" if kind != "absent" else "{example}", context)
        return InitErrorDetails(type=kind, loc=detail["loc"], input=detail["input"], ctx=context)


CUSTOM = frozenset({OBJECTION, UNKNOWN_KEY, "absent"})
Model = TypeVar("Model", bound=BaseModel)


def objection(wrong: str, right: str) -> PydanticCustomError:
    """What a validator of ours raises."""
    return PydanticCustomError(OBJECTION, "{wrong}; {right}", {"wrong": wrong, "right": right})


def validated(model: type[Model], node: Node) -> Model:
    """``node`` as a ``model``. Raises :class:`SpecError` with every objection at its place."""
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        raise SpecError(_problem(detail, node) for detail in error.errors(include_url=False)) from None


def refuse(node: Node, path: Sequence[Key], wrong: str, right: str, *, key: bool = False) -> NoReturn:
    """Raise the one problem with the value at ``path``, or with its key."""
    raise SpecError([Problem(node.place(path, of_key=key), wrong, right)])


def _problem(detail: ErrorDetails, node: Node) -> Problem:
    path, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == "absent":
        key, _, _ = context["example"].partition(":")
        return Problem(node.place(path[:-1]), f"{key} is missing", f"add `{context['example']}`")
    of_key = kind in {UNKNOWN_KEY, "invalid_key"} or path[-1:] == ("[key]",)
    named = [part for part in path if isinstance(part, str) and part != "[key]"]
    name = str(path[-1]) if kind == UNKNOWN_KEY else named[-1] if named else ""
    wrong, right = _words(kind, detail["input"], context, detail["msg"])
    where = node.place([part for part in path if part != "[key]"], of_key=of_key)
    return Problem(where, f"{name}: {wrong}" if name else wrong, right)


def _words(kind: str, value: Any, context: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    if kind in CUSTOM:
        return str(context["wrong"]), str(context["right"])
    if kind in WORDS:
        wrong, right = WORDS[kind](value, context)
        return wrong, right
    return f"{shown(value)}: {otherwise}", ""


def _not(noun: str, example: str, **meant: str) -> Callable[[Any, Mapping[str, Any]], tuple[str, str]]:
    """``"two" is not a whole number; write one, such as 2``; ``meant`` by what YAML 1.1 would have understood."""

    def words(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
        wrong = "nothing is given" if value is None else f"{shown(value)} is not {noun}"
        return wrong, f"write {meant.get(str(value).lower(), example)}"

    return words


def _choice(value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
    otherwise = f"write {known[0]}" if len(known) == 1 else f"one of {', '.join(known)}"
    return f"{shown(value)} is not known here", suggestion(str(value), known, otherwise)


WORDS: Mapping[str, Callable[[Any, Mapping[str, Any]], tuple[str, str]]] = {
    "int_type": _not("a whole number", "one, such as 2"),
    "float_type": _not("a number", "one, such as 0.5", nan=".nan", inf=".inf"),
    "bool_type": _not("a boolean", "true or false", yes="true", on="true", no="false", off="false"),
    "string_type": _not("text", "text, quoted where it looks like a number"),
    "list_type": _not("a list", "one, such as [1, 2]"),
    "dict_type": _not("a mapping", "keys with values"),
    "model_type": _not("a mapping", "keys with values"),
    "literal_error": _choice,
    "greater_than_equal": lambda value, context: (f"{shown(value)} is too small", f"at least {context['ge']}"),
    "less_than_equal": lambda value, context: (f"{shown(value)} is too large", f"at most {context['le']}"),
    "too_short": lambda _, context: (
        f"has {context['actual_length']} entries",
        f"at least {context['min_length']}",
    ),
    "too_long": lambda _, context: (
        f"has too many entries: {context['actual_length']}",
        f"at most {context['max_length']}",
    ),
    "string_too_short": lambda _, __: ("is empty", "say it in words"),
    "invalid_key": lambda value, _: (f"{shown(value)} is not a word", "keys are words here"),
    "finite_number": lambda value, _: (f"{shown(value)} is not finite", "write a finite number"),
}
