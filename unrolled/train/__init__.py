"""Training by denoising score matching: `python -m unrolled.train`."""
