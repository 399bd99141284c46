"""Cases whose reference is a module: built, run in eager torch, and prepared for every target."""
