"""Any value on one short line, without ambiguity: for case ids and for messages."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
RESERVED = frozenset({"null", "true", "false", "nan", "inf"})
LONGEST = 64


def compact(value: Any) -> str:
    """``value`` as YAML in flow style without spaces: ``[2,3]``, ``{full:1.5}``, ``true``, ``.nan``, ``word``, ``"2"``.

    Two values of different type or content never look alike.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ",".join(f"{compact(key)}:{compact(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(compact, value)) + "]"
        case _:
            word = str(value)
            bare = WORD.fullmatch(word) and word.lower() not in RESERVED
            return word if bare else json.dumps(word, ensure_ascii=not word.isprintable())


def label(value: Any) -> str:
    """``compact`` for an id: what is longer than 64 characters becomes ``~`` and eight digits of its hash."""
    text = compact(value)
    return text if len(text) <= LONGEST else "~" + blake2b(text.encode(), digest_size=4).hexdigest()


def shown(value: Any) -> str:
    """``compact`` for a message, cut where it is long."""
    text = compact(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
