"""What a TorchScript archive holds, as one digest that does not depend on what its process did before."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

# torch numbers classes of one name as a process makes them: ``activation.___torch_mangle_3.Sigmoid``.
NUMBER = re.compile(rb"[./]___torch_mangle_\d+")
# A hash of the archive's own names, and the lines of Python that the code came from.
ASIDE = (b"/.data/serialization_id", b".debug_pkl")


def digest_of(path: Path) -> str:
    """The SHA-256 of all that a runtime reads from the archive, but for the numbers of its classes."""
    with zipfile.ZipFile(path) as archive:
        members = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    digest = hashlib.sha256()
    for name, held in sorted((NUMBER.sub(b"", name), NUMBER.sub(b"", held)) for name, held in members):
        if not name.endswith(ASIDE):
            digest.update(b"%s %d\n%s" % (name, len(held), held))
    return digest.hexdigest()
