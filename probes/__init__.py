"""Probes of attention: what the maps look like by lag, and how that compares with the covariance of the data."""
