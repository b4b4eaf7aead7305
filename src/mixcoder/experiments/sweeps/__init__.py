"""All runs of an experiment, several side by side."""
