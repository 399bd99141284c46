"""Which installed libraries are older than what harness needs: its own metadata against theirs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires

from harness.environment import ONNXRUNTIME, installed
from harness.errors import RuntimeMissing

DISTRIBUTION = "parity-harness"
STACK = "cpu"
"""The extra that names torch, its exporter and ONNX Runtime, each with the oldest version that works."""

FOR_SPECS = frozenset({"torch", "onnxscript"})


def require_supported(*, torch: bool) -> None:
    """Raise :class:`RuntimeMissing` where a library is too old to run checks with, before it fails by itself.

    ``torch`` is False where nothing is built or exported, so that torch is not imported.
    """
    if (line := unsupported(torch=torch)) is not None:
        raise RuntimeMissing(line)


@cache
def unsupported(*, torch: bool = True) -> str | None:
    """One line about every library that is missing or too old, and how to install it; None if there is none.

    A harness that is not installed declares nothing, so nothing is known of it.
    """
    try:
        wrong = dict(_wrong(torch=torch))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "packaging":
            raise
        wrong = {"packaging is not installed": "packaging"}
    if not wrong:
        return None
    return f"{', '.join(wrong)}; install with: pip install {' '.join(dict.fromkeys(wrong.values()))}"


def _wrong(*, torch: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with a library, and the requirement that would be right, quoted for a shell."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, declared):
        in_every_installation = requirement.marker is None
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": STACK}):
            continue
        if requirement.name in FOR_SPECS and not torch:
            continue
        for name in ONNXRUNTIME if requirement.name == "onnxruntime" else (requirement.name,):
            found = installed(name)
            right = f"'{name}{requirement.specifier}'"
            if found is None:
                if in_every_installation:
                    yield f"{name} is not installed", right
                continue
            try:
                # A build from source may call itself 2.9.0a0+git: it has what 2.9 has.
                base = Version(found).base_version
            except InvalidVersion:
                continue
            if not requirement.specifier.contains(base):
                yield f"{name} {found} is too old for harness", right
