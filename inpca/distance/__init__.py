"""Distances between models: divergences, fused tile kernels, and the engine that runs them."""
