"""Data that is made and not Gaussian: videos of a ball, and latent processes whose exact score is known."""
