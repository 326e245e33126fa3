"""Simpler stand-ins for the parts of a DiT, and what each costs: `python -m probes.replacement`."""
