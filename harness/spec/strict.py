"""The base of every model of outside data: unknown keys are refused, and each objection has its place in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from harness.errors import Problem, SpecError
from harness.spec.compact import shown
from harness.spec.nearest import suggestion
from harness.spec.node import Key, Node

if TYPE_CHECKING:
    from pydantic.functional_validators import ModelWrapValidatorHandler
    from typing_extensions import Self

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
