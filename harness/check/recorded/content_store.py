"""Files in a bundle in the making: arrays and models by their content, so that none is kept twice.

A file that stands in several places is one file with several names (hard links), as far as the file system can.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.onnx_arrays import from_array

Array = NDArray[Any]

ENTRIES = ".entries"
"""The folder of what is not yet in the manifest; it is gone before the bundle is done."""


class ContentStore:
    """A worker's hand on the bundle at ``folder``; several may write at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(self, values: Array) -> str:
        """The path of ``values`` as a tensor's protobuf, below the bundle."""
        data = from_array(np.ascontiguousarray(values).reshape(values.shape)).SerializeToString()
        path = f"data/{sha256(data).hexdigest()[:32]}.pb"
        self._write(path, data)
        return path

    def arrays(self, named: Mapping[str, Array]) -> dict[str, str]:
        """The path of each of ``named``."""
        return {name: self.array(values) for name, values in named.items()}

    def array_at(self, values: Array, path: str) -> None:
        """The same protobuf under one more name."""
        self._link(self.folder / self.array(values), path)

    def model(self, file: Path, folder: str) -> str:
        """The path of a copy of ``file`` in ``folder``; one that is there already is linked and not copied."""
        data = file.read_bytes()
        own = f"{ENTRIES}/models/{sha256(data).hexdigest()}"
        self._write(own, data)
        self._link(self.folder / own, f"{folder}/{file.name}")
        return f"{folder}/{file.name}"

    def text(self, path: str, text: str) -> None:
        """A small file of its own."""
        self._write(path, text.encode())

    def leave(self, case_id: str, export: str, entry: Mapping[str, Any]) -> None:
        """What the manifest is to say of the case, or of its ``export``."""
        case, part = (sha256(name.encode()).hexdigest()[:32] for name in (case_id, export))
        self._write(f"{ENTRIES}/{case}/{part}.json", json.dumps(entry).encode())

    def left(self, case_id: str, export: str = "") -> dict[str, Any] | None:
        """What was left of the case, or of its ``export``; None where there is no file of it."""
        case, part = (sha256(name.encode()).hexdigest()[:32] for name in (case_id, export))
        try:
            found: dict[str, Any] = json.loads((self.folder / ENTRIES / case / f"{part}.json").read_bytes())
        except FileNotFoundError:
            return None
        return found

    def _write(self, path: str, data: bytes) -> None:
        """Whole or not at all, and once: another worker that writes the same wrote the same."""
        place = self.folder / path
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".writing-", delete=False) as file:
            file.write(data)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(place)

    def _link(self, file: Path, path: str) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)
