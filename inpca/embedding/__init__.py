"""InPCA: centring, the eigensolver, the estimator, projection, explained stress."""
