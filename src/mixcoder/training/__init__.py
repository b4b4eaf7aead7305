"""The training of one model, from its recipe to its checkpoints."""
