"""A worker's unit of work: a case with its targets."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from harness import search_path
from harness.check.cache.artifacts import is_cached
from harness.check.settings import Settings
from harness.environment import versions
from harness.exporters._dynamo_cache import WARMED_UP_EXPORTERS
from harness.result import Result, Stage, Symptom
from harness.spec.language.case import Case, FactoryModel
from harness.spec.targets import Target


@dataclass(frozen=True, slots=True)
class Job:
    """One case on some targets. It is sent to one worker, since its checks share their preparation.

    ``journal`` is the file that results are written to, line by line; ``scratch`` is a folder for temporary files,
    which the run removes. A factory's module is imported from ``home``.
    """

    case: Case
    targets: tuple[Target, ...]
    settings: Settings
    journal: Path
    scratch: Path
    home: Path

    @property
    def is_recorded(self) -> bool:
        """True where the case is verified without torch."""
        return self.case.is_recorded

    @property
    def runs_user_code(self) -> bool:
        """True where the case runs a user's code, which may leave anything behind in its process."""
        return self.case.runs_user_code

    @property
    def needs_preparation(self) -> bool:
        """True where there is an export to make that is much faster in a warmed-up process."""
        warmed_up = [target for target in self.targets if target.exporter in WARMED_UP_EXPORTERS]
        return any(not is_cached(self.settings.cache, self.case, target) for target in warmed_up)

    def without(self, targets: set[str]) -> Job:
        """Return the job without ``targets``."""
        return replace(self, targets=tuple(target for target in self.targets if str(target) not in targets))


def lost_check_result(
    job: Job,
    target: Target,
    stage: Stage,
    symptom: Symptom,
    message: str,
    log: tuple[str, ...],
    notes: tuple[str, ...] = (),
) -> Result:
    """Return the result of a check whose worker died."""
    where = str(job.case.where)
    return Result(job.case.id, str(target), "error", stage, symptom, message, log=log, notes=notes, where=where)


def fingerprint(case: Case, target: Target, settings: Settings) -> str:
    """Return what a result depends on, as a hash: the case with all its data, target, settings, installed versions.

    The user's modules are in the settings.
    """
    return fingerprint_function(case, settings)(target)


def fingerprint_function(case: Case, settings: Settings) -> Callable[[Target], str]:
    """Return :func:`fingerprint` as a function of the target; the case is written out only once."""
    used = (
        settings.latency,
        settings.layers,
        settings.strict_ulp,
        settings.timeout,
        settings.timeout_per_gib,
        settings.memory,
        settings.sources,
    )
    common = hashlib.sha256(f"{used} {case!r} {installed_versions()}".encode())

    def with_target(target: Target) -> str:
        complete = common.copy()
        complete.update(f" {target}".encode())
        return complete.hexdigest()[:32]

    return with_target


# What the user's callables are made of


def callables_of(case: Case) -> tuple[str, ...]:
    """The user's callables that the case names: of its models, and of what measures its samples."""
    weighted = (case.model, case.expect.equals, case.expect.differs_from)
    models = [each.model for each in weighted if each is not None]
    factories = [each.factory for each in models if isinstance(each, FactoryModel)]
    return (*factories, *([case.data.metric] if case.data is not None and case.data.metric is not None else []))


def source_files(callables: Iterable[str]) -> list[Path]:
    """The user's Python files that the ``callables`` may run: their modules, and what these import, at any depth.

    A package counts as a whole, since its modules may be imported by a name that is made up at run time. Installed
    packages do not count, and neither does what is read without an import. Nothing is imported.
    """
    excluded = search_path.excluded_folders()
    found: set[Path] = set()
    for each in callables:
        module = each.rpartition(":")[0]
        is_file = module.endswith(".py")
        folders = [str(Path(module).absolute().parent), *excluded] if is_file else excluded
        remaining = [Path(module).absolute()] if is_file else _module_files(module.partition(".")[0], folders)
        seen: set[str] = set()
        while remaining:
            file = remaining.pop()
            if file.is_file():
                found.add(file)
                imported = _imported_names(file.read_bytes()) - seen
                seen |= imported
                remaining += [other for name in sorted(imported) for other in _module_files(name, folders)]
    return sorted(found)


def sources_digest(callables: Iterable[str]) -> str:
    """A digest of :func:`source_files`: their paths and their content."""
    digest = hashlib.sha256()
    for file in source_files(callables):
        digest.update(f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


_NEVER_USERS = frozenset({*sys.stdlib_module_names, "harness"})
_IMPORT = re.compile(
    rb"(?:^|[;:])[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([^\n#;]+))|import_module\(\s*[\"'](\w+)", re.MULTILINE
)
"""The text of an import. One in a comment or a string is harmless: it names a module that exists, or none."""


def _imported_names(source: bytes) -> set[str]:
    """The top-level modules that the text of a module imports."""
    names = set()
    for match in _IMPORT.finditer(source):
        for part in (match[1] or match[2] or match[3]).split(b","):
            names.add(part.split(b" as ")[0].strip().partition(b".")[0].decode(errors="replace"))
    return {name for name in names if name.isidentifier()}


def _module_files(name: str, folders: Sequence[str]) -> list[Path]:
    """The files of a top-level module or package of the user's; none of one that is installed."""
    if name in _NEVER_USERS:
        return []
    try:  # not find_spec, which answers with what this process has imported from another folder
        specs = (finder.find_spec(name, None) for finder in sys.meta_path)
        spec = next(filter(None, specs), None) or PathFinder.find_spec(name, list(folders))
    except (ImportError, ValueError, AttributeError):  # a finder that fails
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    else:
        files = [file for place in spec.submodule_search_locations for file in Path(place).rglob("*.py")]
    return [file.absolute() for file in files if not _INSTALLED.intersection(file.parts)]


_INSTALLED = frozenset({"site-packages", "dist-packages"})


@cache
def installed_versions() -> str:
    """Return the versions of the installed libraries, as text."""
    return repr(sorted(versions().items()))
