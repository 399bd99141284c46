"""A case's id taken apart: ``pooling/avgpool2d/windows[args.kernel_size=2,args.ceil_mode=true]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaseName:
    """``spec``: the file, below the specs' root. ``family``: the case's name in it. ``point``: its matrix point."""

    spec: str
    family: str
    point: tuple[str, ...] = ()

    @classmethod
    def parse(cls, case: str) -> CaseName:
        """Take a case's id apart; an id without a folder has an empty ``spec``."""
        path, bracket, point = case.partition("[")
        spec, _, family = path.rpartition("/")
        return cls(spec, family, _settings(point.removesuffix("]")) if bracket else ())

    @property
    def short(self) -> str:
        """The id without the spec's path, for where that stands above."""
        return self.family + (f"[{','.join(self.point)}]" if self.point else "")


def _settings(point: str) -> tuple[str, ...]:
    """``a=1,b=[2, 3]`` at its outer commas: a value may hold commas of its own in brackets."""
    settings, depth = [""], 0
    for char in point:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            settings.append("")
        else:
            settings[-1] += char
    return tuple(settings)
