"""Paths -> every case under them, with all that is wrong with them in one go.

A directory is searched for ``*.yaml``, except ``targets.yaml`` and ``known-failures.yaml``, and for
recorded models (see :mod:`harness.spec.recorded`), and is itself the root: ids are paths below it,
and the two files are looked for in it. A link that leads out of it is refused; what was itself given
may be a link. A recorded model that is itself given is called by the name of its folder. For a file,
the root is the nearest folder above it, its own first, that holds one of the two, not above the
repository it is in (the folder with ``.git``); so a file's cases have the same ids, targets and
known failures alone as in the whole. Where there is no such folder, the root is the file's own.

The known failures that some specs are held against: all that speak of them, and none that speaks of nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from harness.environment import versions
from harness.errors import Location, Problem, RequestError, SpecError, UsageError, collecting, told
from harness.spec.bundle.reader import MANIFEST, Bundle, is_bundle, load_bundle
from harness.spec.glob import Names
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.language.case import Case, FileModel
from harness.spec.language.expand import expand
from harness.spec.quoting import few_comparisons, nearest
from harness.spec.recorded import MODEL, is_recorded, recorded_case
from harness.spec.targets import Target, TargetSets, load_target_sets
from harness.spec.yaml.reader import read

TARGETS = "targets.yaml"
KNOWN_FAILURES = "known-failures.yaml"
MODEL_SUFFIX = ".onnx"
MOST_NAMES = 10_000


@dataclass(frozen=True)
class Specs:
    """Every case that was asked for.

    ``root`` holds ``targets.yaml``, where there is one; ``known_failures`` is the list that
    speaks of these cases, None where there is none.
    """

    cases: tuple[Case, ...]
    files: tuple[Path, ...]
    root: Path
    known_failures: Path | None
    allow_import: bool = False
    bundle: Bundle | None = None

    @cached_property
    def target_sets(self) -> TargetSets:
        """The sets of targets that these cases can be taken to. Raises :class:`SpecError` where their file is wrong."""
        if self.bundle is not None:
            return self.bundle.targets
        recorded = [isinstance(case.model.model, FileModel) for case in self.cases]
        return load_target_sets(self.root, exported=not all(recorded), recorded=any(recorded))

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions that decide which known failures apply: those here, and for a bundle those it was made with."""
        return versions() if self.bundle is None else self.bundle.judged_by(versions())

    @cached_property
    def ids_known_of(self) -> tuple[str, ...]:
        """The ids of every case that ``known_failures`` speaks of: these, and those of its folder that were not asked.

        Raises :class:`SpecError` where a spec of that folder is wrong.
        """
        asked = tuple(case.id for case in self.cases)
        if self.known_failures is None or self.bundle is not None:
            return asked
        root = self.known_failures.parent
        given = {_Found(file, root).itself for file in self.files}
        rest = [each for each in (_Found(file, root) for file in _search(root, [])) if each.itself not in given]
        return asked + tuple(case.id for case in _cases(rest, allow_import=True))


@dataclass(frozen=True, slots=True)
class _Found:
    """A spec, or the file of a recorded model, and the folder that its ids are told from."""

    file: Path
    root: Path

    @property
    def itself(self) -> Path:
        """What makes it one thing under two names; a model with other data beside it is another."""
        is_model = self.file.name == MODEL
        # Not Path.resolve, which raises where a link leads to itself; reading the file says so with its place.
        return Path(os.path.realpath(self.file.parent), MODEL) if is_model else Path(os.path.realpath(self.file))

    @property
    def stem(self) -> str:
        """What the ids of a spec's cases begin with."""
        return told(Path(os.path.relpath(self.file, self.root)).with_suffix("").as_posix())

    def cases(self, *, allow_import: bool) -> tuple[Case, ...]:
        """The cases of the spec, or the one of the recorded model. Raises :class:`SpecError` with its problems."""
        if self.file.name != MODEL:
            slips: list[Problem] = []
            return expand(read(self.file, slips), self.stem, allow_import=allow_import, slips=slips)
        below = Path(os.path.relpath(self.file.parent, self.root)).as_posix()
        case_id = told(self.file.parent.resolve().name if below == "." else below)
        return (recorded_case(self.file.parent, case_id),)


def load(paths: Sequence[Path | str], *, allow_import: bool = False, known_failures: Path | None = None) -> Specs:
    """Every case of the specs and recorded models that ``paths`` name, files or directories.

    ``known_failures`` is a list that stands in for the one beside them.
    Raises :class:`RequestError` for a path that is not there or has nothing to verify, :class:`UsageError`
    where two of them have targets or known failures of their own, and :class:`SpecError` with
    every problem of every file, targets and known failures included.
    """
    if any(map(is_bundle, map(Path, paths))):
        return _bundle(paths)
    found: dict[Path, _Found] = {}
    problems: list[Problem] = []
    for path in map(Path, paths):
        for each in _find(path, problems):
            found.setdefault(each.itself, each)
    if not found and problems:
        raise SpecError(problems)
    if not found:
        raise RequestError("nothing to verify; name a spec, or a directory of specs")
    roots = tuple(dict.fromkeys(each.root for each in found.values()))
    targets, known = _one(roots, TARGETS), _one(roots, KNOWN_FAILURES)
    root = targets.parent if targets else roots[0]
    strays = [file for file in (targets, known) if file is not None and _leads_out(file, file.parent)]
    problems += map(_stray, strays)
    with collecting(problems):
        cases = _cases(found.values(), allow_import=allow_import)
    if targets not in strays:
        with collecting(problems):
            load_target_sets(root)
    if known_failures or known not in strays:
        with collecting(problems):
            load_known_failures(known_failures or known)
    if problems:
        raise SpecError(problems)
    return Specs(cases, tuple(each.file for each in found.values()), root, known, allow_import)


def _bundle(paths: Sequence[Path | str]) -> Specs:
    folder, *others = map(Path, paths)
    if others:
        raise UsageError(f"{' '.join(map(str, paths))}: a bundle has targets of its own; give it to a run of its own")
    bundle = load_bundle(folder)
    return Specs(bundle.cases, (folder / MANIFEST,), folder, bundle.known_failures, bundle=bundle)


def has_specs(paths: Iterable[Path | str]) -> bool:
    """Whether there is any spec under ``paths``, by a quick look at names, before anything is read."""
    return any(_is_spec(Path(path).name) or any(map(_is_spec, _names_below(path))) for path in paths)


def _is_spec(name: str) -> bool:
    return name.endswith(".yaml") and name not in {TARGETS, KNOWN_FAILURES}


def _names_below(folder: Path | str) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names


def _find(path: Path, problems: list[Problem]) -> Iterator[_Found]:
    """What is to be read at ``path``; links that lead out of it go to ``problems``."""
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
        exists = is_directory or is_file or path.exists()
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}; name a file that can"
        ) from error
    if is_directory:
        files = list(_search(path, problems))
        if not files and not problems:
            right = f"a spec is a file called *.yaml, a recorded model a folder with {MODEL} and test_data_set_0"
            raise RequestError(f"{path}: no spec in this directory, and no recorded model; {right}")
        yield from (_Found(file, path) for file in files)
    elif not exists:
        raise RequestError(f"{path}: no such file or directory; name a spec, or a directory of specs")
    elif not is_file:
        raise RequestError(f"{path}: not a file; name a spec, or a directory of specs")
    elif path.suffix == MODEL_SUFFIX:
        yield _Found(_with_data(path), path.parent)
    elif path.suffix == ".py":
        command = f"harness init {shlex.quote(f'{path}:NAME')}"
        raise RequestError(f"{path}: Python, not a spec; write a spec for a module in it with {command}")
    elif path.name in {TARGETS, KNOWN_FAILURES}:
        raise RequestError(f"{path}: not a spec; name the directory that it stands in")
    else:
        yield _Found(path, _root_of(path))


def _with_data(model: Path) -> Path:
    """A model file that was itself given. Raises :class:`RequestError` where nothing is recorded beside it."""
    beside = [one.name for one in model.parent.iterdir() if one.is_dir()]
    if model.name != MODEL or not is_recorded(model.parent, beside, [MODEL]):
        right = f"put it in a folder as {MODEL}, with test_data_set_0 beside it, and name the folder"
        raise RequestError(f"{model}: a model alone has nothing to be compared with; {right}")
    return model


def _search(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """The specs and the files of recorded models below ``folder``, sorted.

    Links to directories are not followed: they may go in circles. Those that hold specs outside, and specs that are
    links to a place outside, go to ``problems``.
    """

    def refuse(error: OSError) -> None:
        said = (error.strerror or str(error)).lower()
        raise RequestError(f"{error.filename}: cannot be read: {said}; name a directory that can") from error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        specs = [name for name in names if _is_spec(name)]
        recorded = [MODEL] if is_recorded(Path(parent), folders, names) else []
        found += [Path(parent) / name for name in (*specs, *recorded)]
        problems += (_stray(each) for each in (Path(parent) / name for name in folders) if _holds_strays(each, folder))
    strays = {file for file in found if file.name != MODEL and _leads_out(file, folder)}
    problems += map(_stray, strays)
    yield from sorted({*found} - strays)


def _leads_out(path: Path, folder: Path) -> bool:
    """Whether ``path``, below ``folder``, is a link to a place that is not."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _holds_strays(path: Path, folder: Path) -> bool:
    """Whether the directory ``path`` is a link out of ``folder`` to specs, as far as a quick look shows."""
    if not _leads_out(path, folder) or Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
        return False
    return any(map(_is_spec, islice(_names_below(path), MOST_NAMES)))


def _stray(path: Path) -> Problem:
    return Problem(Location(told(path)), "a link out of the folder that was given", "put the file itself there")


def _root_of(file: Path) -> Path:
    """The nearest folder above ``file`` with targets or known failures; its own where there is none."""
    for above in (Path.cwd() / file).parents:
        if any(os.path.lexists(above / name) for name in (TARGETS, KNOWN_FAILURES)):
            return Path(os.path.relpath(above))
        if (above / ".git").exists():
            break
    return file.parent


def _one(roots: Iterable[Path], name: str) -> Path | None:
    """The file called ``name`` of the only root that has one."""
    there = {os.path.realpath(path): path for path in (root / name for root in roots) if os.path.lexists(path)}
    if len(there) > 1:
        listed = " and ".join(map(str, there.values()))
        raise UsageError(f"{listed} both apply; give their paths to runs of their own")
    return next(iter(there.values()), None)


def _cases(found: Iterable[_Found], *, allow_import: bool) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    problems: list[Problem] = []
    for each in found:
        with collecting(problems):
            for case in each.cases(allow_import=allow_import):
                if case.id in cases:
                    problems.append(_twice(case.id, case.where, cases[case.id].where))
                cases.setdefault(case.id, case)
    if problems:
        raise SpecError(problems)
    return tuple(cases.values())


def _twice(case_id: str, where: Location, first: Location) -> Problem:
    return Problem(where, f"{case_id}: {first} has this id too", "give a root that holds both, or rename one")


@few_comparisons()
def listed(
    specs: Specs, paths: Sequence[Path | str], targets: Sequence[Target] = (), given: Path | None = None
) -> tuple[KnownFailure, ...]:
    """The known failures of the ``specs`` under ``paths``: of the list beside them, or the one that is ``given``.

    Where only some files of the list's folder are named, an entry may well speak of the others: it is left out, not
    called stale. Else each must match some case on one of ``targets`` or of those that the specs know, also where a
    run takes only some of either. Raises :class:`SpecError` with every entry that does not.
    """
    path = given or specs.known_failures
    known = load_known_failures(path)
    whole = path is not None and any(Path(each).resolve() == path.parent.resolve() for each in paths)
    cases = Names(case.id for case in specs.cases)
    if not whole and given is None:
        known = tuple(entry for entry in known if cases.any_matching(entry.cases))
    if problems := list(_stale(known, cases, Names(map(str, (*specs.target_sets.all, *targets))))):
        raise SpecError(problems)
    return known


def _stale(known: Sequence[KnownFailure], cases: Names, targets: Names) -> Iterator[Problem]:
    """Entries that could never match a check of these specs, whatever the versions."""
    for entry in known:
        # The two globs are apart, so that no case need be held against every target: there are a million such pairs.
        if cases.any_matching(entry.cases) and targets.any_matching(entry.targets):
            continue
        near = filter(None, (nearest(entry.cases, cases.every), nearest(entry.targets, targets.every)))
        right = "correct its globs" + (f" (near: {said})" if (said := ", ".join(near)) else "") + " or remove it"
        wrong = f"cases {entry.cases!r} on targets {entry.targets!r} match no case of the specs on any known target"
        yield Problem(entry.where, wrong, right)
