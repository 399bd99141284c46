"""The targets that a bundle can be taken to: each of its exports, on every runtime that runs that format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import Location, RuntimeMissing, UsageError
from harness.registry import plugins
from harness.spec.nearest import listed_names, suggestion
from harness.spec.target import Target
from harness.spec.targets import DEFAULT, TargetSets, parse_target

EVERY = "all"


@dataclass(frozen=True)
class BundleTargets(TargetSets):
    """The set ``default`` is what the bundle was packed for, the set ``all`` everything that it can be taken to.

    As for recorded models, a word may be a runtime, and of several targets that a glob matches those count whose
    runtime is on this machine: whoever writes ``ort-*`` means whichever there is. Raises :class:`RuntimeMissing` where
    there is none.
    """

    exports: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, packed_for: Sequence[str], where: Location) -> BundleTargets:
        """For the targets that the bundle was packed for. Raises :class:`SpecError` for one that is none."""
        ordinary = tuple(parse_target(text, where) for text in packed_for)
        formats = {target.export: plugins("exporters")[target.exporter].makes for target in ordinary}
        return cls({DEFAULT: ordinary, EVERY: every_target(formats, where)}, exports=tuple(formats))

    def _of_sets(self, word: str) -> Iterator[Target]:
        named = "*" in word or "/" in word or word in self.sets or word not in plugins("runtimes")
        # An export may hold no star, so that a runtime's own name matches as a glob does.
        found = tuple(super()._of_sets(word if named else f"*/{word}"))
        for target in found:
            if target.export not in self.exports:
                right = suggestion(target.export, self.exports, f"it holds {listed_names(self.exports)}")
                raise UsageError(f"{word}: the bundle has no export {target.export}; {right}")
        if "*" not in word:
            yield from found
            return
        available = {target.runtime: plugins("runtimes")[target.runtime].availability() for target in found}
        present = tuple(target for target in found if available[target.runtime].present)
        if found and not present:
            # One that could run anywhere says most of what to do; it comes before those that want a device.
            first = min(available, key=lambda runtime: (not runtime.endswith("-cpu"), runtime))
            raise RuntimeMissing(f"{word}: none of these runtimes is here; {available[first].why_not(first)}")
        yield from present


def every_target(formats: Mapping[str, str], where: Location | None = None) -> tuple[Target, ...]:
    """Each export on every runtime that runs its format, whether it is on this machine or not."""
    return tuple(
        parse_target(f"{export}/{name}", where)
        for export, form in formats.items()
        for name, runtime in plugins("runtimes").items()
        if runtime.takes == form
    )
