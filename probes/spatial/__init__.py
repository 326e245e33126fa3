"""Value and output products against the eigenvectors of Sigma: `python -m probes.spatial`."""
