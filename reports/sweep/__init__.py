"""Running experiments on any number of processes."""
