"""Models for programs that have never heard of Mixcoder."""
