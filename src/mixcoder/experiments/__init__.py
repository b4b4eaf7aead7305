"""Experiments: read from a file, run, kept in run directories."""
