"""The files of a bundle that is being written: arrays and models by their content, so that each is stored once.

A file that is needed under several paths is stored once and hard-linked; a file system without hard links gets copies.
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

from harness.data_files.onnx_files import from_array

Array = NDArray[Any]

ENTRIES = ".entries"
"""The subfolder for what is not in the manifest yet. It is removed before the bundle is complete."""


def layers_of(export: str) -> str:
    """The name under which the entry of the layers of ``export`` is stored."""
    return f"{export} layers"


class ContentStore:
    """Writes files to the bundle at ``folder``. Several worker processes may write at the same time.

    Paths are relative to the bundle's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_array(self, values: Array) -> str:
        """Store ``values`` as the protobuf of a tensor; return its path."""
        data = from_array(np.ascontiguousarray(values).reshape(values.shape)).SerializeToString()
        path = f"data/{_digest(data)}.pb"
        self._write(path, data)
        return path

    def put_arrays(self, arrays: Mapping[str, Array]) -> dict[str, str]:
        """Store each of ``arrays``; return the paths by name."""
        return {name: self.put_array(values) for name, values in arrays.items()}

    def put_array_at(self, values: Array, path: str) -> None:
        """Store ``values`` as :meth:`put_array` does, also under ``path``."""
        self._link(self.folder / self.put_array(values), path)

    def put_model(self, file: Path, folder: str) -> str:
        """Store a copy of ``file`` in ``folder``; return its path. A file that is already stored is linked."""
        data = file.read_bytes()
        stored = f"{ENTRIES}/models/{sha256(data).hexdigest()}"
        self._write(stored, data)
        self._link(self.folder / stored, f"{folder}/{file.name}")
        return f"{folder}/{file.name}"

    def put_text(self, path: str, text: str) -> None:
        """Store ``text`` at ``path``."""
        self._write(path, text.encode())

    def put_entry(self, case_id: str, export: str, entry: Mapping[str, Any]) -> None:
        """Store the manifest's entry of an ``export`` of the case; with an empty ``export``, that of the case."""
        self._write(self._entry_path(case_id, export), json.dumps(entry).encode())

    def get_entry(self, case_id: str, export: str = "") -> dict[str, Any] | None:
        """The entry stored by :meth:`put_entry`; None if there is none."""
        try:
            entry: dict[str, Any] = json.loads((self.folder / self._entry_path(case_id, export)).read_bytes())
        except FileNotFoundError:
            return None
        return entry

    def _entry_path(self, case_id: str, export: str) -> str:
        return f"{ENTRIES}/{_digest(case_id.encode())}/{_digest(export.encode())}.json"

    def _write(self, path: str, data: bytes) -> None:
        """Write ``data`` completely or not at all. An existing file stays: its path stands for the same content."""
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


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]
