"""Names of harness's own steps in the profile of its share."""

from __future__ import annotations

BUILT = "modules and inputs built"
COPIES = "modules copied, since exporters and layers change what they are given"
FILES = "file system: folders made, files written, read and moved into place"
ASKED = "arrays handed to runtimes and taken from them, placement asked"

OF_OTHERS = (BUILT, COPIES, FILES, ASKED)
"""Steps that are little more than calls of the system, ``copy.deepcopy``, and libraries outside the timed calls."""
