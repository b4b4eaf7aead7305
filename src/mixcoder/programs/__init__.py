"""Training in Python programs: `train`, the loop in one's own hands, the history, and what is kept."""
