"""The two source trees of a replay: a revision from git, and a copy of the working tree."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

MAIN = ("origin/main", "main")


class ReplayError(Exception):
    """The replay cannot be made as requested; the message is one line."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One side of the replay: ``name`` is ``old`` or ``new``, ``label`` says where its files come from."""

    name: str
    label: str
    root: Path


def default_revision(repository: Path) -> str:
    """Return HEAD if the working tree has changes, else the commit where the branch left main."""
    if _git(repository, "status", "--porcelain"):
        return "HEAD"
    for main in MAIN:
        if _succeeds(repository, "rev-parse", "--verify", "--quiet", f"{main}^{{commit}}"):
            return _git(repository, "merge-base", "HEAD", main)
    raise ReplayError("this clone has no branch main to compare with; name a revision, such as HEAD~1")


def commit(repository: Path, revision: str) -> str:
    """The full hash of the commit that ``revision`` names."""
    if revision.startswith("-") or not _succeeds(
        repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"
    ):
        raise ReplayError(f"no commit {revision!r} in this clone; name a commit, a tag or a branch, or fetch it first")
    return _git(repository, "rev-parse", "--verify", f"{revision}^{{commit}}")


def revision_tree(repository: Path, revision: str, root: Path) -> Tree:
    """The files of ``revision`` written to ``root``. Nothing is added to the repository, as a git worktree would."""
    found = commit(repository, revision)
    packed = subprocess.run(["git", "archive", "--format=tar", found], cwd=repository, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(root, filter="data")
    about = _git(repository, "show", "--no-patch", "--format=%h %s", found)
    return Tree("old", f"{revision} ({about})" if revision != found else about, root)


def working_tree(repository: Path, root: Path) -> Tree:
    """A copy of what git would add of the working tree, so that an edit during the replay changes nothing."""
    listed = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, copy = repository / name, root / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    changed = bool(_git(repository, "status", "--porcelain"))
    head = _git(repository, "rev-parse", "--short", "HEAD")
    return Tree("new", f"the working tree ({head}{' with changes' if changed else ', unchanged'})", root)


def is_new_since(repository: Path, revision: str, file: Path) -> bool:
    """Whether ``file`` does not exist in ``revision``."""
    return not _succeeds(repository, "cat-file", "-e", f"{revision}:{file.relative_to(repository).as_posix()}")


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReplayError(f"git {arguments[0]} failed: {done.stderr.strip() or 'no reason given'}")
    return done.stdout.strip()


def _succeeds(repository: Path, *arguments: str) -> bool:
    return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, check=False).returncode == 0
