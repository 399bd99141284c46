"""Validate data from outside: pydantic models that refuse unknown keys, and JSON files that are read whole or refused.

Every problem is one line with its location in the file.
"""

from __future__ import annotations

import json
import os
import select
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from harness.errors import Location, Problem, SpecError
from harness.spec.quoting import format_value, suggestion
from harness.spec.yaml.tree import Node

if TYPE_CHECKING:
    from pydantic.functional_validators import ModelWrapValidatorHandler
    from typing_extensions import Self

INVALID_VALUE = "invalid_value"
UNKNOWN_KEY = "unknown_key"
MISSING_KEY = "missing_key"
NOT_IN_PATHS = frozenset(
    {"[key]", "[file]", "[tensors]", "[tensor]", "[list]", "[mapping]", "[null]", "[layer]", "[operation]"}
)
"""What pydantic adds to the place of an error: the key of a mapping itself, and which alternative of a union it is."""
CUSTOM_ERRORS = frozenset({INVALID_VALUE, UNKNOWN_KEY, MISSING_KEY})


class StrictModel(BaseModel):
    """Base class for outside data: values are not converted, unknown keys are refused, and instances are frozen."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),  # pydantic before 2.10 warns about every field with a name that begins with "model_"
    )

    remedies: ClassVar[Mapping[str, str]] = {}
    """Keys that readers may expect here, each with a message that says where it belongs."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain_key_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Add to errors about keys what only the model knows: the closest key, or an example of a missing one."""
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
            keys = [field.alias or name for name, field in cls.model_fields.items()]
            key = str(detail["loc"][0])
            remedy = cls.remedies.get(key) or suggestion(key, keys, f"keys allowed here: {', '.join(keys)}")
            kind = PydanticCustomError(UNKNOWN_KEY, "unknown key", {"message": "unknown key", "remedy": remedy})
        elif kind == "missing" and len(detail["loc"]) == 1:
            field = next(f for n, f in cls.model_fields.items() if (f.alias or n) == detail["loc"][0])
            example = (field.examples or ["..."])[0]
            kind = PydanticCustomError(MISSING_KEY, "missing", {"example": f"{detail['loc'][0]}: {example}"})
        elif kind in CUSTOM_ERRORS:
            kind = PydanticCustomError(kind, "{message}" if kind != MISSING_KEY else "{example}", context)
        return InitErrorDetails(type=kind, loc=detail["loc"], input=detail["input"], ctx=context)


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], node: Node) -> Model:
    """``node`` as a ``model``. Raises :class:`SpecError` with every problem at its location."""
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        raise SpecError(_problem(detail, node) for detail in error.errors(include_url=False)) from None


def invalid_value(message: str, remedy: str) -> PydanticCustomError:
    """The error that harness's own validators raise."""
    return PydanticCustomError(INVALID_VALUE, "{message}; {remedy}", {"message": message, "remedy": remedy})


def key_path(location: tuple[int | str, ...]) -> str:
    """Pydantic's ``("cases", 0, "id")`` as ``cases[0].id``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part not in NOT_IN_PATHS)
    return "".join(parts).lstrip(".")


def _problem(detail: ErrorDetails, node: Node) -> Problem:
    path, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == MISSING_KEY:
        key, _, _ = context["example"].partition(":")
        location = [part for part in path[:-1] if part not in NOT_IN_PATHS]
        return Problem(node.location(location), f"{key} is missing", f"add `{context['example']}`")
    of_key = kind in {UNKNOWN_KEY, "invalid_key"} or path[-1:] == ("[key]",)
    keys = [part for part in path if isinstance(part, str) and part not in NOT_IN_PATHS]
    name = str(path[-1]) if kind == UNKNOWN_KEY else keys[-1] if keys else ""
    message, remedy = _message(kind, detail["input"], context, detail["msg"])
    where = node.location([part for part in path if part not in NOT_IN_PATHS], of_key=of_key)
    return Problem(where, f"{name}: {message}" if name else message, remedy)


def _message(kind: str, value: Any, context: Mapping[str, Any], pydantic_message: str) -> tuple[str, str]:
    """The message and the remedy for an error of this ``kind``."""
    if kind in CUSTOM_ERRORS:
        return str(context["message"]), str(context["remedy"])
    if kind in MESSAGES:
        message, remedy = MESSAGES[kind](value, context)
        return message, remedy
    return f"{format_value(value)}: {pydantic_message}", ""


def _wrong_type(noun: str, example: str, **by_word: str) -> Callable[[Any, Mapping[str, Any]], tuple[str, str]]:
    """``"two" is not a whole number; write one, such as 2``; ``by_word`` holds what to write for words of YAML 1.1."""

    def message(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
        text = "no value" if value is None else f"{format_value(value)} is not {noun}"
        return text, f"write {by_word.get(str(value).lower(), example)}"

    return message


def _unknown_choice(value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    choices = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
    otherwise = f"write {choices[0]}" if len(choices) == 1 else f"write one of {', '.join(choices)}"
    return f"{format_value(value)} is not allowed here", suggestion(str(value), choices, otherwise)


MESSAGES: Mapping[str, Callable[[Any, Mapping[str, Any]], tuple[str, str]]] = {
    "int_type": _wrong_type("a whole number", "one, such as 2"),
    "float_type": _wrong_type("a number", "one, such as 0.5", nan=".nan", inf=".inf"),
    "bool_type": _wrong_type("a boolean", "true or false", yes="true", on="true", no="false", off="false"),
    "string_type": _wrong_type("text", "text, quoted if it looks like a number"),
    "list_type": _wrong_type("a list", "one, such as [1, 2]"),
    "dict_type": _wrong_type("a mapping", "keys with values"),
    "model_type": _wrong_type("a mapping", "keys with values"),
    "literal_error": _unknown_choice,
    "greater_than_equal": lambda value, context: (f"{format_value(value)} is too small", f"at least {context['ge']}"),
    "less_than_equal": lambda value, context: (f"{format_value(value)} is too large", f"at most {context['le']}"),
    "too_short": lambda _, context: (
        f"has {context['actual_length']} entries",
        f"at least {context['min_length']}",
    ),
    "too_long": lambda _, context: (
        f"has too many entries: {context['actual_length']}",
        f"at most {context['max_length']}",
    ),
    "string_too_short": lambda _, __: ("is empty", "write some text"),
    "invalid_key": lambda value, _: (f"{format_value(value)} is not a word", "keys are words here"),
    "finite_number": lambda value, _: (f"{format_value(value)} is not finite", "write a finite number"),
}


MAX_FILE_BYTES = 2**30
MAX_DEPTH = 64
PIPE_OPEN_TIMEOUT_S = 2.0
"""How long a pipe may have no writer."""
PIPE_READ_TIMEOUT_S = 60.0
READ_BYTES = 2**20


def read_json(path: Path, description: str, remedy: str) -> Any:
    """The JSON value in the file at ``path``; messages call it ``description`` and end with ``remedy``.

    Raises :class:`SpecError` with one line if the file cannot be read, is a device, is larger than 1 GiB, is truncated,
    is nested more than 64 levels deep, or is not JSON. A pipe, as from ``<(...)`` in a shell, is read to its end,
    unless it has no writer.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise file_error(path, "this is a device, not a file", remedy)
        if stat.S_ISFIFO(mode):
            raw = _read_pipe(path)
        else:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
    except TimeoutError as error:
        raise file_error(path, "this is a pipe without a writer", remedy) from error
    except OSError as error:
        raise file_error(path, f"cannot be read ({error.strerror})", remedy) from error
    if len(raw) > MAX_FILE_BYTES:
        raise file_error(path, f"larger than {MAX_FILE_BYTES >> 30} GiB", remedy)
    try:
        value = json.loads(raw)
    except json.JSONDecodeError as error:
        message = f"{description} is truncated or broken" if error.pos else "this is not JSON"
        raise file_error(path, f"{message} ({error.msg})", remedy, error.lineno, error.colno) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, or endless nesting
        raise file_error(path, "this is not readable JSON", remedy) from error
    if _is_too_deep(value):
        raise file_error(path, f"{description} is nested more than {MAX_DEPTH} levels deep", remedy)
    return value


def file_error(path: Path, message: str, remedy: str, line: int = 1, column: int = 1) -> SpecError:
    """The error for one problem with the file at ``path``."""
    return SpecError([Problem(Location(str(path), line, column), message, remedy)])


def _is_too_deep(value: Any) -> bool:
    """Whether ``value`` is nested deeper than the code that walks it recursively can take."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH + 1):
        children = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for each in children for child in each if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _read_pipe(path: Path) -> bytes:
    """Everything written to the pipe. Raises :class:`TimeoutError` if nothing is, or if the writer goes silent."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a blocking open would wait for a writer without end
    try:
        parts: list[bytes] = []
        deadline = time.monotonic() + PIPE_OPEN_TIMEOUT_S
        while sum(map(len, parts)) <= MAX_FILE_BYTES:
            try:
                parts.append(os.read(pipe, READ_BYTES))
            except BlockingIOError:
                if not select.select([pipe], [], [], PIPE_READ_TIMEOUT_S)[0]:
                    raise TimeoutError from None
                continue
            if parts[-1]:
                continue
            if len(parts) > 1:
                break
            # No process has opened it for writing, or one has and wrote nothing.
            if time.monotonic() > deadline:
                raise TimeoutError
            del parts[-1]
            time.sleep(0.01)
        return b"".join(parts)
    finally:
        os.close(pipe)
