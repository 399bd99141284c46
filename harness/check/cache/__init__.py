"""The artifact cache: exported files, stored under a key of everything they depend on."""
