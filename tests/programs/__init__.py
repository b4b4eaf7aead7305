"""Training from Python programs."""
