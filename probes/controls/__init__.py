"""Every head against networks and inputs that cannot know the covariance: `python -m probes.controls`."""
