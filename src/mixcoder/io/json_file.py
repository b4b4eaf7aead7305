"""JSON files that a stranger may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixcoder.errors import RunDirectoryError, first_line, system_reason

LARGEST_BYTES = 16 << 20


def read_json_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        RunDirectoryError: the file is not plain, too large, not JSON, nested too deep, or not an object.
    """
    try:
        check_plain_file(path)
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise RunDirectoryError(f"{path}: is longer than {LARGEST_BYTES:,} bytes")
        value = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise RunDirectoryError(f"{path}: {system_reason(error)}") from error
    except RecursionError as error:
        raise RunDirectoryError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        raise RunDirectoryError(f"{path}: is not readable JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path}: is not a JSON object")
    return value


def check_plain_file(path: Path) -> None:
    """Checks that a path is no pipe or device, whose reading might never end.

    Raises:
        RunDirectoryError: there is something that is neither a plain file nor a link to one.
    """
    if path.exists() and not path.is_file():
        raise RunDirectoryError(f"{path}: is not a plain file")
