"""Data files that ship with the package; README.md beside them says where each comes from."""
