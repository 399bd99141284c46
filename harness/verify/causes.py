"""What an exception says and what it was raised from, whatever its class makes of ``str()`` and of its own fields.

An exception of a user's code may raise where it is asked for its text, be 50 MB long or be chained in a ring. So its
fields are read as Python keeps them, and never more of its text than a bound.
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, TracebackType

FARTHEST = 20
MOST_READ = 1 << 16
"""So many characters of a text are looked at; no library says what it has to say later than that."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_NAME, _MODULE = (vars(type)[name] for name in ("__name__", "__module__"))
_CAUSE, _CONTEXT, _TRACEBACK = (vars(BaseException)[name] for name in ("__cause__", "__context__", "__traceback__"))


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what caused it, the nearest first; exceptions may be chained in a ring, so not for ever."""
    link: BaseException | None = error
    for _ in range(FARTHEST):
        if link is None:
            return
        yield link
        cause, context = cause_of(link), _CONTEXT.__get__(link)
        link = context if cause is None else cause


def cause_of(error: BaseException) -> BaseException | None:
    """What ``error`` was raised from, where the code that raised it says so."""
    cause: BaseException | None = _CAUSE.__get__(error)
    return cause


def text_of(value: object) -> str:
    """``str(value)``, of any length; where that raises, words that say so."""
    try:
        return str.__str__(str(value))
    except BaseException as raised:
        if is_from_outside(raised):
            raise
        return f"no message, since str() of it raises {kind_of(raised)}"


def read(value: object) -> str:
    """As much of :func:`text_of` as is ever looked at."""
    return text_of(value)[:MOST_READ]


def kind_of(error: BaseException) -> str:
    """The name of the class of ``error``, on one line of a bounded length."""
    name: str = _NAME.__get__(type(error))
    return printable(" ".join(name.split())[:100]) or "an exception without a name"


def printable(text: str) -> str:
    """``text`` with an escape for what a terminal would obey, and for what cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


def module_of(error: BaseException) -> str:
    """The module that the class of ``error`` says it is from; empty where it says nothing."""
    with suppress(AttributeError):
        module: object = _MODULE.__get__(type(error))
        if type(module) is str:
            return module
    return ""


def is_from_outside(error: BaseException) -> bool:
    """True where a signal handler of this process raised ``error``: a Ctrl-C, or a limit that the caller has set.

    That is told for what is no ``Exception``: those pass through the code that they interrupt, which ``error`` is not
    about. Python's own handler of Ctrl-C leaves no trace; see :func:`harness.verify.given.check_given`.
    """
    if issubclass(type(error), Exception):
        return False
    handlers = {code for number in signal.valid_signals() if (code := _code_of(signal.getsignal(number)))}
    frame: TracebackType | None = _TRACEBACK.__get__(error)
    while frame is not None:
        if frame.tb_frame.f_code in handlers:
            return True
        frame = frame.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    """The code of a handler that is written in Python."""
    while isinstance(handler, partial):
        handler = handler.func
    if not inspect.isroutine(handler):
        handler = vars(type(handler)).get("__call__")
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None
