"""What is done to the bytes of any file."""

from __future__ import annotations

from random import Random

STRANGE = [
    b"",
    b"\0",
    b"\n",
    b"<html>",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x80\x04.",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
]
LONG = 300_000


def broken(content: bytes, dice: Random) -> bytes:
    """The file with one thing done to it."""
    at = dice.randrange(len(content) + 1)
    match dice.choice(["byte", "byte", "bit", "cut", "longer", "gone", "again", "zeros", "other"]):
        case "byte":
            return content[:at] + dice.randbytes(1) + content[at + 1 :]
        case "bit" if at < len(content):
            return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
        case "cut":
            return content[: dice.choice([at, dice.randrange(20)])]
        case "longer":
            return content + dice.choice([b"\0", b"\n", dice.randbytes(9), bytes(LONG), content])
        case "gone":
            return content[:at] + content[at + dice.randint(1, 16) :]
        case "again":
            return content[:at] + content[:at]
        case "zeros":
            length = dice.choice([1, 8, 512])
            return content[:at] + bytes(length) + content[at + length :]
    return dice.choice([*STRANGE, dice.randbytes(40)])
