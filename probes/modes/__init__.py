"""The operator that a network computes, by eigenmode and by lag: `python -m probes.modes`."""
