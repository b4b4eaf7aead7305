"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mixcoder.errors import WriteError


def write_atomically(path: Path, content: bytes) -> None:
    """Makes `path` hold `content`; whatever happens on the way, the old file or the new one is there.

    Raises:
        WriteError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
