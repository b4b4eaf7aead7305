"""What runs gave, read back from their directories."""
