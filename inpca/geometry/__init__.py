"""The geometry of training: geodesics, progress, trajectories, averages."""
