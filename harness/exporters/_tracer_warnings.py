"""What torch's tracer warned of during an export: places where the model reads values that the export then keeps."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_PACKAGES = "site-packages"
_MAX_SOURCE = 80
_OWN_FOLDER = Path(__file__).parents[1]


@contextmanager
def recorded_tracer_warnings() -> Iterator[list[str]]:
    """Collect the tracer's warnings inside the block: ``file:line: `source line```, each place once, in order.

    They are shown as always, also where the user's code has turned warnings off. Warnings about torch's own code are
    left out: they are about sizes that torch's layers check.
    """
    import torch
    from torch.jit._trace import TracerWarning

    found: list[str] = []
    ignored = (Path(torch.__file__).parent, _OWN_FOLDER)
    show = warnings.showwarning

    def record(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TracerWarning) and not any(folder in Path(filename).parents for folder in ignored):
            place = source_line(filename, lineno)
            if place not in found:
                found.append(place)
        show(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", TracerWarning)
        ignore_lib_warnings: Any = TracerWarning.ignore_lib_warnings
        ignore_lib_warnings()
        warnings.showwarning = record
        yield found


def source_line(filename: str, number: int) -> str:
    """``file:line: `source line```. The path begins in the working directory or in the folder of installed packages."""
    source = linecache.getline(filename, number).strip()
    if len(source) > _MAX_SOURCE:
        source = f"{source[:_MAX_SOURCE]}..."
    return f"{_shown_path(filename)}:{number}" + (f": `{source}`" if source else "")


def _shown_path(filename: str) -> str:
    path = Path(filename)
    if _PACKAGES in path.parts:
        return str(Path(*path.parts[path.parts.index(_PACKAGES) + 1 :]))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
