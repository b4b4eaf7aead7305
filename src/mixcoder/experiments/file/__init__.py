"""What an experiment file states."""
