"""A first spec for a module: written from its signature, after eager torch has tried what it holds.

:mod:`subject` finds the module, :mod:`guesses` says what might fit it, :mod:`trying` keeps what does, and
:mod:`writing` writes the spec down.
"""

from __future__ import annotations
