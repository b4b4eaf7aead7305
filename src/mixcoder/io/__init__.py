"""Files that are never half written, locks, limits of memory."""
