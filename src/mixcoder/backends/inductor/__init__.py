"""Training steps as graphs that Inductor, torch's compiler, turns into machine code."""
