"""What Mixcoder claims about speed and memory, to be run."""
