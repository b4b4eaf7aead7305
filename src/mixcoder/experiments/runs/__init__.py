"""Run directories: what a run is, writes, and is known by."""
