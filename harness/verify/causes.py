"""What an exception was raised from."""

from __future__ import annotations

from collections.abc import Iterator

FARTHEST = 20


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what caused it, the nearest first; exceptions may be chained in a ring, so not for ever."""
    link: BaseException | None = error
    for _ in range(FARTHEST):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
