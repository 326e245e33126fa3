"""How stable the profiles of heads are over t, sequences, heads and training seeds: `python -m probes.stability`."""
