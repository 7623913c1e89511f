"""What is on disk: sample sets, runs, distance tiles, embeddings. The only room that knows zarr."""
