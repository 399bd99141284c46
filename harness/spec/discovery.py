"""Finds specs and recorded models under the given paths and loads every case, with all problems reported at once.

- **A directory** is searched for ``*.yaml``, except ``targets.yaml`` and ``known-failures.yaml``, and for recorded
  models (see :mod:`harness.spec.recorded`). Hidden folders below it, virtual environments (they have a ``pyvenv.cfg``),
  ``node_modules`` and ``site-packages`` are left out. It is the root: ids are paths relative to it, and the two files
  are looked for in it. A link below it that points outside is refused; the given path itself may be a link. A recorded
  model that is given itself has the name of its folder as its id.
- **A file** has as its root the nearest folder above it, its own first, that holds one of the two files, but no folder
  above the repository (the folder with ``.git``). So the cases of a file have the same ids, targets and known failures
  alone as with the whole folder. If there is no such folder, the root is the file's own folder.
- **A bundle** has its own cases, targets and known failures.

:func:`known_failures_for` selects the known failures that apply to the loaded specs and refuses stale entries.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from harness.data_files import near_file
from harness.environment import versions
from harness.errors import Location, Problem, RequestError, SpecError, UsageError, collect_problems, escape_path
from harness.spec import KNOWN_FAILURES_FILE, TARGETS_FILE, has_spec_name, names_below, walk
from harness.spec.bundle.reader import MANIFEST_FILE, Bundle, is_bundle, load_bundle
from harness.spec.glob import NameIndex, named_cases, path_and_case
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.language.case import Case, FileModel
from harness.spec.language.data import SpecFolder
from harness.spec.language.expand import expand
from harness.spec.quoting import closest_name, limited_comparisons
from harness.spec.recorded import MODEL_FILE, MODEL_FILES, is_recorded_model, model_file, recorded_cases
from harness.spec.targets import Target, parse_target
from harness.spec.targets.sets import TargetSets, load_target_sets, targets_of
from harness.spec.yaml import read

MODEL_SUFFIXES = (".onnx", ".ort")
MAX_NAMES_SCANNED = 10_000


@dataclass(frozen=True)
class Specs:
    """The cases under the given paths.

    ``root`` is the folder of ``targets.yaml``, if there is one. ``known_failures`` is the list that applies to these
    cases, None if there is none.
    """

    cases: tuple[Case, ...]
    files: tuple[Path, ...]
    root: Path
    known_failures: Path | None
    allow_import: bool = False
    bundle: Bundle | None = None

    @cached_property
    def target_sets(self) -> TargetSets:
        """The target sets for these cases. Raises :class:`SpecError` if their file is wrong."""
        if self.bundle is not None:
            return replace(self.bundle.targets, root=self.root, allow_import=self.allow_import)
        recorded = [isinstance(case.model.model, FileModel) for case in self.cases]
        by_format = {(name, file.format): file for case in self.cases for name, file in case.files.items()}
        own = tuple(parse_target(text) for case in self.cases for text in case.targets)
        files = tuple(
            (*targets_of(name, file), *(each for each in own if each.tested_file == name))
            for (name, _), file in by_format.items()
        )
        return load_target_sets(
            self.root,
            exported=not all(recorded),
            recorded=any(recorded),
            files=files,
            allow_import=self.allow_import,
        )

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions that decide which known failures apply: those installed here, or a bundle's own."""
        return versions() if self.bundle is None else self.bundle.versions_for_known_failures(versions())


def load_specs(paths: Sequence[Path | str], *, allow_import: bool = False, known_failures: Path | None = None) -> Specs:
    """Every case of the specs, recorded models or bundle at ``paths``, which are files or directories.

    ``known_failures`` is a list that replaces the one beside the specs.
    Raises :class:`RequestError` for a path that does not exist or has nothing to verify, :class:`UsageError` if two
    paths have different targets or known failures, and :class:`SpecError` with every problem of every file, targets and
    known failures included.
    """
    if any(map(is_bundle, map(Path, paths))):
        return _load_bundle(paths, allow_import=allow_import)
    files: dict[Path, _SpecFile] = {}
    problems: list[Problem] = []
    for path, name in map(path_and_case, paths):
        for file in _find(path, problems):
            earlier = files.setdefault(file.identity, replace(file, names=(name,) if name else ()))
            names = dict.fromkeys((*earlier.names, name)) if name and earlier.names else ()
            files[file.identity] = replace(earlier, names=tuple(names))
    if not files and problems:
        raise SpecError(problems)
    if not files:
        raise RequestError("nothing to verify; name a spec, or a folder of specs")
    roots = tuple(dict.fromkeys(file.root for file in files.values()))
    targets_file, list_file = _only_file(roots, TARGETS_FILE), _only_file(roots, KNOWN_FAILURES_FILE)
    root = targets_file.parent if targets_file else roots[0]
    outside = [file for file in (targets_file, list_file) if file is not None and _points_outside(file, file.parent)]
    problems += map(_link_problem, outside)
    with collect_problems(problems):
        cases = _load_cases(files.values(), allow_import=allow_import)
    if targets_file not in outside:
        with collect_problems(problems):
            load_target_sets(root)
    if known_failures or list_file not in outside:
        with collect_problems(problems):
            load_known_failures(known_failures or list_file)
    if problems:
        raise SpecError(problems)
    return Specs(cases, tuple(file.file for file in files.values()), root, list_file, allow_import)


def _load_bundle(paths: Sequence[Path | str], *, allow_import: bool) -> Specs:
    folder, *others = map(Path, paths)
    if others:
        raise UsageError(f"{' '.join(map(str, paths))}: a bundle has its own targets; run it separately")
    bundle = load_bundle(folder)
    return Specs(bundle.cases, (folder / MANIFEST_FILE,), folder, bundle.known_failures, allow_import, bundle)


def spec_folder(file: Path) -> SpecFolder:
    """The folder of a spec file, and the one that the files it names must be in."""
    return SpecFolder(file.parent, _root_of(file))


@limited_comparisons()
def known_failures_for(
    specs: Specs, paths: Sequence[Path | str], targets: Sequence[Target] = (), override: Path | None = None
) -> tuple[KnownFailure, ...]:
    """The known failures that apply to ``specs``, loaded from ``paths``: of the list beside them, or of ``override``.

    If only some files of the list's folder are given, entries for the others are left out and not reported as stale.
    Otherwise each entry must match some case on one of ``targets`` or of the specs' target sets, even if a run uses
    only some of these. Raises :class:`SpecError` with every entry that matches none.
    """
    path = override or specs.known_failures
    entries = load_known_failures(path)
    is_whole_folder = path is not None and any(Path(each).resolve() == path.parent.resolve() for each in paths)
    cases = NameIndex(case.id for case in specs.cases)
    if not is_whole_folder and override is None:
        entries = tuple(entry for entry in entries if cases.any_matching(entry.cases))
    if problems := list(_stale_entries(entries, cases, NameIndex(map(str, (*specs.target_sets.all, *targets))))):
        raise SpecError(problems)
    return entries


def _stale_entries(entries: Sequence[KnownFailure], cases: NameIndex, targets: NameIndex) -> Iterator[Problem]:
    """A problem for each entry that cannot match a check of these specs, whatever the versions."""
    for entry in entries:
        # The two globs are matched separately: there are a million pairs of a case and a target.
        if cases.any_matching(entry.cases) and targets.any_matching(entry.targets):
            continue
        closest = filter(None, (closest_name(entry.cases, cases.names), closest_name(entry.targets, targets.names)))
        near = f" (near: {names})" if (names := ", ".join(closest)) else ""
        message = f"cases {entry.cases!r} on targets {entry.targets!r} match no case of the specs on any known target"
        yield Problem(entry.where, message, f"correct its globs{near} or remove it")


@dataclass(frozen=True, slots=True)
class _SpecFile:
    """A spec, or the file of a recorded model, and the root that its ids are relative to; ``names`` selects cases."""

    file: Path
    root: Path
    names: tuple[str, ...] = ()

    @property
    def identity(self) -> Path:
        """The same for two paths of one spec. For a model it includes the folder, which holds the recorded data."""
        is_model = self.file.name in MODEL_FILES
        # Not Path.resolve, which raises where a link leads to itself; reading the file reports that with its place.
        own_name = Path(os.path.realpath(self.file))
        return Path(os.path.realpath(self.file.parent), MODEL_FILE) if is_model else own_name

    @property
    def stem(self) -> str:
        """The first part of the ids of a spec's cases."""
        return escape_path(Path(os.path.relpath(self.file, self.root)).with_suffix("").as_posix())

    def cases(self, *, allow_import: bool) -> tuple[Case, ...]:
        """The cases of the spec, or those of the recorded model. Raises :class:`SpecError` with its problems."""
        cases = self._all_cases(allow_import=allow_import)
        return named_cases(cases, self.names, self.file, self.stem) if self.names else cases

    def _all_cases(self, *, allow_import: bool) -> tuple[Case, ...]:
        if self.file.name not in MODEL_FILES:
            repeated: list[Problem] = []
            beside = SpecFolder(self.file.parent, self.root)
            tree = read(self.file, repeated)
            return expand(tree, self.stem, allow_import=allow_import, repeated_keys=repeated, folder=beside)
        folder = Path(os.path.relpath(self.file.parent, self.root)).as_posix()
        case_id = escape_path(self.file.parent.resolve().name if folder == "." else folder)
        return recorded_cases(self.file.parent, case_id)


def _load_cases(files: Iterable[_SpecFile], *, allow_import: bool) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    problems: list[Problem] = []
    for file in files:
        with collect_problems(problems):
            for case in file.cases(allow_import=allow_import):
                if case.id in cases:
                    message = f"{case.id}: {cases[case.id].where} has the same id"
                    problems.append(Problem(case.where, message, "name a folder that holds both, or rename one"))
                cases.setdefault(case.id, case)
    if problems:
        raise SpecError(problems)
    return tuple(cases.values())


def _find(path: Path, problems: list[Problem]) -> Iterator[_SpecFile]:
    """The files to read at ``path``; links that point outside it are added to ``problems``."""
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
            hint = f"a spec is a file named *.yaml, a recorded model a folder with {MODEL_FILE} and test_data_set_0"
            raise RequestError(f"{path}: no spec in this folder, and no recorded model; {hint}")
        yield from (_SpecFile(file, path) for file in files)
    elif not exists:
        raise RequestError(f"{path}: no such file or directory; {near_file(path, 'name a spec, or a folder of specs')}")
    elif not is_file:
        raise RequestError(f"{path}: not a file; name a spec, or a folder of specs")
    elif path.suffix in MODEL_SUFFIXES:
        yield _SpecFile(_with_test_data(path), path.parent)
    elif path.suffix == ".py":
        command = f"harness init {shlex.quote(f'{path}:NAME')}"
        raise RequestError(f"{path}: Python, not a spec; write a spec for a module in it with {command}")
    elif path.name in {TARGETS_FILE, KNOWN_FAILURES_FILE}:
        raise RequestError(f"{path}: not a spec; name its folder")
    else:
        yield _SpecFile(path, _root_of(path))


def _with_test_data(model: Path) -> Path:
    """``model``, a file that was given itself. Raises :class:`RequestError` if there is no test data beside it."""
    folders = [entry.name for entry in model.parent.iterdir() if entry.is_dir()]
    if model.name not in MODEL_FILES or not is_recorded_model(model.parent, folders, [model.name]):
        hint = f"put it in a folder as {MODEL_FILE}, with test_data_set_0 beside it, and name the folder"
        raise RequestError(f"{model}: a model alone has nothing to be compared with; {hint}")
    return model


def _search(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """The specs and the files of recorded models below ``folder``, sorted.

    Links to directories are not followed: they may form cycles. A link to a directory outside that holds specs, and a
    spec that is a link to a place outside, are added to ``problems``.
    """

    def refuse(error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        raise RequestError(f"{error.filename}: cannot be read: {reason}; name a folder that can") from error

    files: list[Path] = []
    for parent, folders, names in walk(folder, refuse):
        specs = [name for name in names if has_spec_name(name)]
        models = [model_file(names) or MODEL_FILE] if is_recorded_model(Path(parent), folders, names) else []
        files += [Path(parent) / name for name in (*specs, *models)]
        links = (Path(parent) / name for name in folders)
        problems += (_link_problem(link) for link in links if _links_to_outside_specs(link, folder))
    outside = {file for file in files if file.name not in MODEL_FILES and _points_outside(file, folder)}
    problems += map(_link_problem, outside)
    yield from sorted({*files} - outside)


def _points_outside(path: Path, folder: Path) -> bool:
    """True if ``path``, below ``folder``, is a link to a place outside it."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _links_to_outside_specs(path: Path, folder: Path) -> bool:
    """True if the directory ``path`` is a link out of ``folder`` to a directory with specs; scans a bounded number."""
    if not _points_outside(path, folder) or Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
        return False
    return any(map(has_spec_name, islice(names_below(path), MAX_NAMES_SCANNED)))


def _link_problem(path: Path) -> Problem:
    return Problem(Location(escape_path(path)), "a link that points outside the folder", "put the file itself there")


def _root_of(file: Path) -> Path:
    """The nearest folder above ``file`` with targets or known failures; its own folder if there is none."""
    for folder in (Path.cwd() / file).parents:
        if any(os.path.lexists(folder / name) for name in (TARGETS_FILE, KNOWN_FAILURES_FILE)):
            return Path(os.path.relpath(folder))
        if (folder / ".git").exists():
            break
    return file.parent


def _only_file(roots: Iterable[Path], name: str) -> Path | None:
    """The file ``name`` in the only root that has one; None if none has. Raises :class:`UsageError` if several have."""
    files = {os.path.realpath(path): path for path in (root / name for root in roots) if os.path.lexists(path)}
    if len(files) > 1:
        raise UsageError(f"{' and '.join(map(str, files.values()))} both apply; run their paths separately")
    return next(iter(files.values()), None)
