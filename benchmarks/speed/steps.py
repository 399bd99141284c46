"""Names of harness's own steps in the profile of its share."""

from __future__ import annotations

BUILT = "building modules and inputs"
COPIES = "copying modules, because exporters and layers change them"
FILES = "file system: creating folders, and writing, reading and moving files"
RUNTIME_IO = "passing arrays to and from runtimes, reading the placement"

MOSTLY_EXTERNAL = (BUILT, COPIES, FILES, RUNTIME_IO)
"""Steps that consist almost only of system calls, ``copy.deepcopy``, and library calls that are not timed."""
