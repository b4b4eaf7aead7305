"""What an experiment will be, before anything trains."""
