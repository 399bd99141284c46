"""The environments in which harness is tested: a Python version, and the versions of all libraries."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TORCH = ("2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.1")
OF_TORCH = frozenset({"setuptools"})
"""Libraries whose version a release of torch limits."""
ONNXRUNTIME = ("1.23.2", "1.25.1", "1.28.0", "1.32.0")
ONNX = ("1.18.0",)


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment: the versions of ``base``, except for those in ``pins``.

    ``tested`` are the versions of constraints.txt, ``lowest`` the oldest that pyproject.toml allows, ``newest`` the
    newest of the package index. pip chooses the versions of the ``unpinned`` libraries. A ``board`` has no torch, and
    runs a bundle that was packed in another environment.
    """

    name: str
    python: str = "3.11"
    base: Literal["tested", "lowest", "newest"] = "tested"
    pins: Mapping[str, str] = field(default_factory=dict)
    unpinned: frozenset[str] = frozenset()
    board: bool = False

    def constraints(self) -> str:
        """Return the text of the constraints file for pip."""
        versions = _tested(self.python) if self.base == "tested" else lowest() if self.base == "lowest" else {}
        pinned = {**versions, **self.pins}.items()
        return "".join(f"{name}=={version}\n" for name, version in sorted(pinned) if name not in self.unpinned)


ENVIRONMENTS = (
    Environment("lowest", base="lowest"),
    Environment("newest", base="newest"),
    *(Environment(f"torch-{version}", pins={"torch": version}, unpinned=OF_TORCH) for version in TORCH),
    *(Environment(f"onnxruntime-{version}", pins={"onnxruntime": version}) for version in ONNXRUNTIME),
    *(Environment(f"onnx-{version}", pins={"onnx": version}) for version in ONNX),
    Environment("python-3.10", python="3.10"),
    Environment("python-3.12", python="3.12"),
    Environment("python-3.13", python="3.13"),
    Environment("python-3.10-target", python="3.10", board=True),
)


def declared() -> Iterator[Requirement]:
    """Return the requirements in pyproject.toml, with PyTorch and ONNX Runtime."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["cpu"]])


@cache
def lowest() -> dict[str, str]:
    """Return the oldest version of each library that pyproject.toml allows. Raises ``ValueError`` if there is none."""
    versions: dict[str, str] = {}
    for requirement in declared():
        floors = [each.version for each in requirement.specifier if each.operator == ">="]
        if len(floors) != 1:
            raise ValueError(f"{requirement}: one oldest version is needed, such as {requirement.name}>=1.0")
        versions[canonicalize_name(requirement.name)] = floors[0]
    return versions


def _tested(python: str) -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}
