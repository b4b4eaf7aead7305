"""The commands of `mixcoder`, and what they share."""
