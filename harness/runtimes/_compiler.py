"""Whether torch and a C++ compiler are here, which what is compiled on this machine needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from harness.environment import installed
from harness.runtimes import Availability


def availability() -> Availability:
    """Whether torch's inductor can compile for the CPU: by ``CXX`` where that is set, else by g++."""
    number = installed("torch")
    if number is None:
        return Availability("torch is not installed", "pip install 'parity-harness[cpu]'")
    compiler = os.environ.get("CXX", "g++")
    found = shutil.which(compiler)
    if found is None:
        return Availability(
            f"there is no C++ compiler {compiler}", "apt-get install g++, or CXX set to another one", f"torch {number}"
        )
    return Availability(detail=f"torch {number}, {_version(found)}")


@cache
def _version(compiler: str) -> str:
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    return said.stdout.partition("\n")[0] or compiler
