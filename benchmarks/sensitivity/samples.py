"""Inputs of each model's own kind: smooth images, tokens, spectrograms, the bytes of files, and lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]

FILES = (
    *("README.md", "LICENSE", "Makefile", "pyproject.toml", "harness/cli/compare.py", "harness/py.typed"),
    *("harness/report/html/assets/page.html", "harness/report/html/assets/styles/tokens.css", "action.yml"),
    *("harness/report/html/assets/scripts/chart.js", "harness/report/html/assets/icons.svg", "CHANGELOG.md"),
    *("harness/spec/signatures.json", "tests/junit.xsd", "specs/avgpool2d.yaml", "constraints.txt", ".gitignore"),
    *("harness/reproduction/script.py.j2", "docs/tutorial.md", "tests/conftest.py", ".editorconfig", "CONTRIBUTING.md"),
)
"""Files of this repository whose types magika is to tell."""
LINES = ("PARITY 2026", "FLOAT32 16", "0123456789", "LINEAR", "RUN 42 OK", "ONNX MODEL", "HALF 65504", "QUANTIZE")

GLYPHS = {
    "A": "75F55",
    "B": "65656",
    "C": "34443",
    "D": "65556",
    "E": "74647",
    "F": "74644",
    "H": "55755",
    "I": "72227",
    "K": "55655",
    "L": "44447",
    "M": "5F755",
    "N": "5F555",
    "O": "75557",
    "P": "75744",
    "Q": "75563",
    "R": "75655",
    "T": "72222",
    "U": "55557",
    "X": "55255",
    "Y": "55222",
    "Z": "71247",
    "0": "75557",
    "1": "26227",
    "2": "71747",
    "3": "71717",
    "4": "55711",
    "5": "74717",
    "6": "74757",
    "7": "71111",
    "8": "75757",
    "9": "75717",
    " ": "00000",
}
"""Letters of three by five dots: a hexadecimal digit for each row, its lowest three bits from left to right."""


def images(count: int, seed: int = 0, size: int = 64) -> Array:
    """Smooth random images ``[count, 3, size, size]``, normalised as classifiers take them."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=(count, 3, size // 8, size // 8))
    fine = generator.normal(size=(count, 3, size // 2, size // 2))
    pixels = coarse.repeat(8, 2).repeat(8, 3) + 0.5 * fine.repeat(2, 2).repeat(2, 3)
    return np.asarray(pixels, np.float32)


def image_samples(count: int) -> Iterator[dict[str, Array]]:
    """One image each."""
    yield from ({"x": images(1, 100 + index)} for index in range(count))


def token_samples(count: int, words: int = 1000, length: int = 32) -> Iterator[dict[str, Array]]:
    """Token ids; small ones are more frequent, as in text."""
    generator = np.random.default_rng(7)
    for _ in range(count):
        yield {"ids": np.minimum(generator.zipf(1.3, (1, length)), words - 1).astype(np.int64)}


def speech_samples(count: int) -> Iterator[dict[str, Array]]:
    """Spectrograms of sweeps with harmonics, and the tokens so far."""
    generator = np.random.default_rng(8)
    times, bins = np.arange(200)[None, :], np.arange(80)[:, None]
    for tokens in token_samples(count, length=12):
        pitch = 8 + 6 * np.sin(times / generator.uniform(10, 40) + generator.uniform(0, 6))
        energy = sum(np.exp(-0.5 * ((bins - pitch * number) / 1.5) ** 2) / number for number in range(1, 6))
        mel = np.log10(energy + 1e-3 * generator.uniform(0.5, 2, (80, 200)))
        yield {"mel": np.asarray((mel[None] + 4) / 4, np.float32), **tokens}


def byte_samples() -> Iterator[dict[str, Array]]:
    """The first and the last 1,024 bytes of files, as magika reads them; 256 stands for none."""
    for name in FILES:
        content = (ROOT / name).read_bytes()
        tokens = np.full(2048, 256, np.int32)
        begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        tokens[: len(begin)] = list(begin)
        tokens[2048 - len(end) :] = list(end)
        yield {"bytes": tokens[None]}


def text_samples(width: int = 320) -> Iterator[dict[str, Array]]:
    """Lines of dark letters on a bright background with some noise, 48 pixels high, between -1 and 1."""
    generator = np.random.default_rng(9)
    for line in LINES:
        rows = [
            [(int(GLYPHS[letter][row], 16) >> bit) & 1 for letter in line for bit in (2, 1, 0, 3)] for row in range(5)
        ]
        dots = np.array([[0 if column % 4 == 3 else dot for column, dot in enumerate(row)] for row in rows])
        ink = dots.repeat(7, 0).repeat(7, 1)[:, : width - 16]
        page = np.zeros((48, width))
        page[6 : 6 + ink.shape[0], 8 : 8 + ink.shape[1]] = ink
        page += generator.normal(scale=0.02, size=page.shape)
        yield {"x": np.asarray(np.broadcast_to(1 - 2 * np.clip(page, 0, 1), (1, 3, 48, width)), np.float32)}
