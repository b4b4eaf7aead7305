"""Training steps as graphs that torch's compiler turns into machine code."""
