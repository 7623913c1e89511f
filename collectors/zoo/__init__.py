"""Small networks, a small data set and a small training loop, for demonstrations and tests."""
