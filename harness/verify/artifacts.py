"""Exported files, kept by what they are made of, so that nothing is exported twice.

An entry is a folder named by the SHA-256 of everything that the export depends on: the model,
its weights and inputs as data, the exporter, its opset and fixes, the versions of the libraries
and harness's own exporting code. An entry is written beside its place and renamed into it, and
its file is held against its digest before it is used: a damaged entry is made anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError
from harness.exporters import Artifact
from harness.spec.case import Case, FactoryModel
from harness.spec.target import Target

ENTRY = "entry.json"
EXPORTING = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes")


class Artifacts:
    """The exported files of one run; with a ``folder``, of the runs before it too."""

    def __init__(self, folder: Path | None, scratch: Path) -> None:
        """Keep what may be kept in ``folder``, and the rest in ``scratch``, which is the caller's to remove."""
        self.folder = folder
        self._scratch = scratch

    def get(self, case: Case, target: Target, suffix: str, export: Callable[[Path], Artifact]) -> Artifact:
        """The artifact of ``case`` for ``target.export``, from the cache where it holds, else by calling ``export``.

        A factory runs a user's code, which no key can cover: its exports are never kept.
        """
        name = key(case, target)
        if self.folder is None or isinstance(case.model.model, FactoryModel):
            place = self._scratch / name
            place.mkdir(exist_ok=True)
            return export(place / f"model{suffix}")
        place = self.folder / name[:2] / name
        return _read(place) or self._keep(place, f"model{suffix}", export)

    def _keep(self, place: Path, filename: str, export: Callable[[Path], Artifact]) -> Artifact:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
        except OSError as error:
            raise HarnessError(f"cache {self.folder}: {error.strerror}; use a folder that can be written") from error
        try:
            made = export(making / filename)
            entry = asdict(made) | {"path": made.path.name}
            (making / ENTRY).write_text(json.dumps(entry), encoding="utf-8")
            _put(making, place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return replace(made, path=place / filename)


def key(case: Case, target: Target) -> str:
    """The name of the entry: a digest of all that the exported file depends on."""
    parts = (case.model, case.inputs, case.mode, case.dtype, case.seed, sorted(case.dynamic.items()), target.export)
    return hashlib.sha256(f"{parts!r}\n{_made_with()}".encode()).hexdigest()


@cache
def _made_with() -> str:
    """The versions of the exporting libraries, and a digest of harness's own code that takes part in an export."""
    package = Path(__file__).parent.parent
    sources = sorted(path for room in ("exporters", "fixes", "model") for path in (package / room).glob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in (*sources, package / "spec" / "fill.py"))).hexdigest()
    return " ".join([*(f"{name}={_version(name)}" for name in EXPORTING), code])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _read(place: Path) -> Artifact | None:
    """The entry at ``place`` where it is whole, else None."""
    try:
        entry = json.loads((place / ENTRY).read_text(encoding="utf-8"))
        artifact = Artifact(**entry | {"path": place / entry["path"], "notes": tuple(entry["notes"])})
        whole = hashlib.sha256(artifact.path.read_bytes()).hexdigest() == artifact.digest
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return artifact if whole else None


def _put(making: Path, place: Path) -> None:
    """Move a finished entry into its place; an entry that another run put there meanwhile is as good."""
    try:
        making.rename(place)
    except OSError:
        if _read(place) is None:
            shutil.rmtree(place, ignore_errors=True)
            making.rename(place)
