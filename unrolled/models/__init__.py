"""Score models: the DiT, the ReLU transformer of the theory, and the record of a hand-set one."""
