"""Claims of the theory as symbolic objects with certificates."""
