"""`python -m mixcoder`, and the command `mixcoder`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs the command line; reports a Ctrl-C during its import, and ignores one once it has ended."""
    try:
        from mixcoder.cli.app import main as run_command

        run_command()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        exec("")  # noqa: S102 - else Python ends by a signal that arrived while a string was executed


if __name__ == "__main__":
    main()
