"""`python -m mixcoder`."""

from mixcoder.cli import main

main()
