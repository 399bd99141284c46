"""Many alike records in little room: each distinct value is written once, and a record says where its own stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
