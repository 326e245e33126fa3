"""Video transformers of diffusers by frame lag and distance: `python -m probes.video`."""
