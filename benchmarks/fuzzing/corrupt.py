"""Ways to corrupt a file: its bytes, its words, and the nesting, aliases and numbers of YAML and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

WORDS = [
    *(
        "~",
        "null",
        "yes",
        "no",
        "0x1F",
        "010",
        "1e-5",
        "1e999",
        "-0.0",
        ".nan",
        "-.inf",
        "1_000",
        "12:30:45",
        "2001-12-14",
    ),
    *(
        "&a",
        "*a",
        "<<: *a",
        "!!python/object/apply:os.system [id]",
        "!!binary aGk=",
        "%YAML 9.9",
        "---",
        "...",
        "? ",
        "- ",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "|",
        ">",
        "'",
        '"',
        "#",
        "\t",
        "\r",
        "\x00",
        "\x1b[2J",
        "\ufeff",
        "\u2028",
        "\ud7ff",
    ),
    *(
        "1000000000000",
        "9" * 400,
        "-1",
        "[1000000, 1000000, 1000000]",
        "2**99999",
        "x" * 3000,
        "../../etc/passwd",
        "/etc/passwd",
    ),
    *(
        "layer",
        "args",
        "inputs",
        "shape",
        "fill",
        "matrix",
        "exclude",
        "expect",
        "formula",
        "graph",
        "factory",
        "os:system",
    ),
    *("x ** x ** x ** 9", "().__class__", "__import__('os')", "sum(x for x in y)", "lambda: 0", "x" + "+x" * 500),
    *('{"a": ', "[[[[[[", "1e400", "NaN", '"\\ud800"', "true", "\\u0000"),
]
TOKEN = re.compile(rb"[\w.@+*/-]+|\s+|.", re.DOTALL)


def corrupted(material: bytes, random: Random) -> bytes:
    """Return ``material`` with one to four random changes."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        material = random.choice(WAYS)(material, random)
    return material


def _byte(material: bytes, random: Random) -> bytes:
    at = random.randrange(len(material) + 1)
    return material[:at] + bytes([random.randrange(256)]) + material[at + random.randrange(2) :]


def _cut(material: bytes, random: Random) -> bytes:
    return material[: random.randrange(len(material) + 1)]


def _without(material: bytes, random: Random) -> bytes:
    begin, end = _span(material, random)
    return material[:begin] + material[end:]


def _twice(material: bytes, random: Random) -> bytes:
    begin, end = _span(material, random)
    at = random.randrange(len(material) + 1)
    return material[:at] + material[begin:end] * random.choice((1, 2, 50)) + material[at:]


def _word(material: bytes, random: Random) -> bytes:
    tokens = TOKEN.findall(material)
    if not tokens:
        return random.choice(WORDS).encode("utf-8", "surrogatepass")
    tokens[random.randrange(len(tokens))] = random.choice(WORDS).encode("utf-8", "surrogatepass")
    return b"".join(tokens)


def _swap(material: bytes, random: Random) -> bytes:
    tokens = TOKEN.findall(material)
    if len(tokens) > 1:
        one, other = random.sample(range(len(tokens)), 2)
        tokens[one], tokens[other] = tokens[other], tokens[one]
    return b"".join(tokens)


def _line(material: bytes, random: Random) -> bytes:
    lines = material.splitlines(keepends=True)
    if len(lines) > 1:
        lines.insert(random.randrange(len(lines)), lines.pop(random.randrange(len(lines))))
    return b"".join(lines)


def _nest(material: bytes, random: Random) -> bytes:
    at = random.randrange(len(material) + 1)
    depth = random.choice((5, 100, 5000))
    opened, closed = random.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b""), (b'{"a":', b"}")))
    return material[:at] + opened * depth + b"1" + closed * depth + material[at:]


def _bomb(material: bytes, random: Random) -> bytes:
    """Aliases of aliases: a few lines that expand to more than any memory holds."""
    wide = "\n".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, random.choice((3, 12))))
    return b"b0: &b0 [1, 2, 3]\n" + wide.encode() + b"\n" + material


def _span(material: bytes, random: Random) -> tuple[int, int]:
    begin = random.randrange(len(material) + 1)
    return begin, min(len(material), begin + random.choice((1, 4, 30, 300)))


WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_byte, _cut, _without, _twice, _word, _word, _word, _swap, _line, _nest, _bomb),
)
