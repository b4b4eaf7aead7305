"""Pictures are written whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mixcoder.errors import ArgumentError
from mixcoder.pixels.pictures import save_picture


def test_pictures_are_written_whole_in_the_format_of_their_name(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), "red")
    for name, kind in {"a.png": "PNG", "b.JPG": "JPEG", "c.webp": "WEBP"}.items():
        save_picture(picture, tmp_path / "new" / name)
        with Image.open(tmp_path / "new" / name) as written:
            assert written.format == kind
    with pytest.raises(ArgumentError, match="does not end in a picture format such as"):
        save_picture(picture, tmp_path / "grid.xyz")
    assert not (tmp_path / "grid.xyz").exists()
