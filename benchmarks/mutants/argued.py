"""Survivors that no test can notice, each with its reason.

The file is a YAML list. ``was`` and ``now`` are the line without and with the mutant, ``function`` the one around it,
so that an entry stays true when other lines move:

    - file: harness/gate.py
      function: exit_code
      was: if a < b
      now: if a <= b
      why: a and b are never equal, because ...
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmarks.mutants.made import Mutant

ARGUED = Path(__file__).with_name("argued.yaml")


class Argument(BaseModel):
    """Why a mutant is the same program as far as anybody can see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    function: str = ""
    was: str
    now: str
    why: str = Field(min_length=20)

    def is_about(self, mutant: Mutant) -> bool:
        """Whether this is the argument for ``mutant``."""
        ours = (self.file, self.function, self.was, self.now)
        return ours == (mutant.file, mutant.function, mutant.was, mutant.now)


def read_arguments(path: Path) -> list[Argument]:
    """The arguments in ``path``. Raises ``ValueError`` with one line where it holds something else."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[Argument]).validate_python(raw or [])
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
