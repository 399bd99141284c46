"""Ways to change the values of a JSON file that keep it valid JSON, so that only the reader's own rules detect them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

from benchmarks.fuzzing.corrupt import corrupted

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "nan", "-inf", "0", "\ud800", "\x00", "../../etc/passwd", "/etc/passwd", "x" * 3000, "passed", "exact"),
    *([], {}, [[]], [None], ["x"], [1, "x"], {"": None}, {"x": 1}, {"0": {"ulp": -1}}, [[[[[[1]]]]]]),
)
Place = tuple[Any, Any]


def corrupted_json(material: bytes, random: Random) -> bytes:
    """Return ``material`` with one to four changed values, or, in one of ten cases, with corrupted text."""
    if random.random() < 0.1:
        return corrupted(material, random)
    whole = json.loads(material)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        places = list(_places(whole))
        if not places:
            break
        random.choice(WAYS)(random.choice(places), places, random)
    return json.dumps(whole).encode()


def _places(value: Any) -> Iterator[Place]:
    """Yield every container with every key or index in it, at any depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _replace(place: Place, _places: list[Place], random: Random) -> None:
    holder, key = place
    holder[key] = deepcopy(random.choice(VALUES))


def _remove(place: Place, _places: list[Place], _random: Random) -> None:
    holder, key = place
    del holder[key]


def _exchange(place: Place, places: list[Place], random: Random) -> None:
    """Replace the value by a copy of the value of another place."""
    (holder, key), (other, at) = place, random.choice(places)
    holder[key] = deepcopy(other[at])


def _add(place: Place, _places: list[Place], random: Random) -> None:
    holder, _ = place
    value = deepcopy(random.choice(VALUES))
    if isinstance(holder, dict):
        holder[random.choice(("x", "", "format", "0"))] = value
    else:
        holder.append(value)


def _wrap(place: Place, _places: list[Place], random: Random) -> None:
    holder, key = place
    holder[key] = [holder[key]] if random.random() < 0.5 else {"x": holder[key]}


WAYS: tuple[Callable[[Place, list[Place], Random], None], ...] = (
    *(_replace, _replace, _replace, _remove, _exchange, _add, _wrap),
)
