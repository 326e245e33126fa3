"""Pages that set trained, exact and true side by side."""
