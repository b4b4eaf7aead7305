"""Which files of a folder are images, which must not be opened, and when the folder has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import features

from mixcoder.data import load_data
from mixcoder.data.store.image_listing import describe_passed_over, list_images
from mixcoder.errors import DataError
from mixcoder.pixels.codec import suffixes
from tests.data.pictures import noise


def touch(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path / "photos", "b.jpg", "a.png", "deep/er/c.webp", "deep/a.TIF", "B.JPEG")
    return tmp_path / "photos"


EVERYTHING = ["B.JPEG", "a.png", "b.jpg", "deep/a.TIF", "deep/er/c.webp"]


def test_images_below_a_folder_by_their_names(root: Path) -> None:
    touch(root, "notes.txt", "jpg", ".jpg", "a.jpg.part", "deep/README", "movie.mp4")
    listing = list_images(str(root))
    assert list(listing.files) == EVERYTHING
    assert listing.files["deep/er/c.webp"] == root / "deep/er/c.webp"
    assert listing.refused == {}


def test_what_is_passed_over_is_named_with_the_reason(root: Path) -> None:
    touch(
        root,
        "notes.txt",
        "IMG_1.HEIC",
        "deep/IMG_2.heic",
        "deep/bare",
        ".DS_Store",
        "deep/.hidden.txt",
        ".jpg",
    )
    (root / "linked").symlink_to("deep")
    (root / "deep/around").symlink_to("..")
    (root / "broken").symlink_to("nothing")
    listing = list_images(str(root))
    assert list(listing.files) == EVERYTHING
    link = "is a link to a folder, which is not followed"
    assert listing.passed_over == {
        "notes.txt": "ends in .txt, which is not read here",
        "IMG_1.HEIC": "ends in .heic, which is not read here",
        "deep/IMG_2.heic": "ends in .heic, which is not read here",
        "deep/bare": "has no suffix",
        "broken": "has no suffix",
        "linked": link,
        "deep/around": link,
    }
    assert list_images(f"{root}/**/*.jpg").passed_over == {"linked": link, "deep/around": link}
    assert list_images(f"{root}/d*/**/*.webp").passed_over == {"deep/around": link}
    assert list_images(f"{root}/*.jpg").passed_over == {}
    assert describe_passed_over(listing.passed_over) == (
        "2 files end in .heic, which is not read here; 2 files have no suffix; "
        "2 are links to folders, which are not followed; 1 file ends in .txt, which is not read here"
    )


def test_only_the_commonest_of_many_endings_are_told(root: Path) -> None:
    touch(root, *(f"{number}.x{number % 9}\x1b[31m" for number in range(20)), "a.jp2")
    told = describe_passed_over(list_images(str(root)).passed_over)
    assert told.isprintable()
    assert told.startswith("3 files end in .x0\\x1b[31m, which is not read here; 3 files end in .x1")
    assert told.endswith("; 9 of 5 other kinds are not read either")


def test_a_folder_of_nothing_that_can_be_read(root: Path) -> None:
    touch(root / "phone", *(f"{number}.HEIC" for number in range(50)))
    with pytest.raises(
        DataError, match=r"phone: holds no images \(50 files end in .heic, which is not read here"
    ):
        list_images(f"{root}/phone")


def test_every_known_ending_in_either_case(root: Path) -> None:
    assert suffixes() >= {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"}
    assert suffixes() >= {".pgm", ".ppm", ".pbm", ".pnm"}
    assert (".avif" in suffixes()) == features.check("avif")
    names = {f"{number}{suffix}" for number, suffix in enumerate(suffixes())}
    touch(root / "all", *names, *(name.upper() for name in names))
    assert set(list_images(f"{root}/all").files) == names | {name.upper() for name in names}


def test_relative_to_here_or_home(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    for place in ("photos", "./photos/", "~/photos", "photos/deep/.."):
        assert list(list_images(place).files) == EVERYTHING
    monkeypatch.chdir(root)
    assert list(list_images(".").files) == EVERYTHING
    assert list(list_images("**/*.webp").files) == ["deep/er/c.webp"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/**/*.jpg", ["b.jpg"]),
        ("photos/**/*.[jJ]*", ["B.JPEG", "b.jpg"]),
        ("photos/*/*", ["deep/a.TIF"]),
        ("photos/deep/**/?.webp", ["er/c.webp"]),
        ("phot*/deep/a.TIF", ["photos/deep/a.TIF"]),
        ("photos/**/*", EVERYTHING),
    ],
)
def test_patterns(root: Path, pattern: str, names: list[str]) -> None:
    listing = list_images(f"{root.parent}/{pattern}")
    assert list(listing.files) == names
    assert listing.refused == {}


def test_a_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "[2024] *?/a.jpg")
    assert list(list_images(f"{tmp_path}/[2024] *?").files) == ["a.jpg"]


def test_links(root: Path, tmp_path: Path) -> None:
    touch(tmp_path, "secret.jpg", "other/d.jpg")
    links = {
        "inside.jpg": "b.jpg",
        "inside-too.jpg": str(root / "deep/a.TIF"),
        "out.jpg": "../secret.jpg",
        "far-out.jpg": "/etc/hostname",
        "other": "../other",
        "deep/up": "..",
        "broken.jpg": "nothing.jpg",
        "loop.jpg": "loop.jpg",
        "folder.jpg": "deep",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    listing = list_images(str(root))
    refused = {"broken.jpg", "far-out.jpg", "loop.jpg", "out.jpg"}
    assert set(listing.files) == {*EVERYTHING, "inside.jpg", "inside-too.jpg", *refused}
    assert set(listing.refused) == refused
    assert listing.refused["out.jpg"] == listing.refused["far-out.jpg"] == "is a link out of the folder"
    assert listing.refused["broken.jpg"] == "cannot be read: no such file or directory"
    assert "cannot be read: " in listing.refused["loop.jpg"]

    by_pattern = list_images(f"{root}/**/*.jpg")
    assert set(by_pattern.refused) == refused
    through = list_images(f"{root}/other/*.jpg")  # who names the link wants what is behind it
    assert (list(through.files), through.refused) == (["d.jpg"], {})
    around = list_images(f"{root}/o*r/*.jpg")
    assert around.refused == {"other/d.jpg": "is a link out of the folder"}
    upwards = list_images(f"{root}/*/../../secret.jpg")
    assert set(upwards.refused.values()) == {"is a link out of the folder"}


def test_what_is_not_a_file_is_refused_without_opening_it(root: Path) -> None:
    os.mkfifo(root / "pipe.jpg")
    (root / "link.jpg").symlink_to("pipe.jpg")
    (root / "folder.jpg").mkdir()
    (root / "device.jpg").symlink_to("/dev/zero")
    listing = list_images(str(root))
    assert listing.refused == {
        "device.jpg": "is a link out of the folder",
        "link.jpg": "is not a file",
        "pipe.jpg": "is not a file",
    }


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("gone", "there is no such folder"),
        ("photos/b.jpg", "is a file, not a folder"),
        ("photos/b.jpg/c", "there is no such folder"),
        ("empty", "holds no images"),
        ("text", "holds no images"),
        ("photos/*.gif", "holds no images"),
        ("gone/**/*.jpg", "there is no such folder"),
        ("photos/b.jpg/*.jpg", "there is no such folder"),
        ("loop/*.jpg", "there is no such folder"),
        ("photos/**.jpg", "cannot be read"),
        ("nul\0", "there is no such folder"),
        ("nul\0/*.jpg", "there is no such folder"),
        ("x" * 5000, "there is no such folder|cannot be read"),
    ],
)
def test_nothing_to_list(root: Path, place: str, problem: str) -> None:
    (root.parent / "empty").mkdir()
    (root.parent / "loop").symlink_to("loop")
    touch(root.parent, "text/a.txt")
    with pytest.raises(DataError, match=problem) as refused:
        list_images(f"{root.parent}/{place}")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def edit(path: Path) -> None:
    path.write_bytes(b"y" * 9)


def touch_again(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda root: touch(root, "new.jpg"),
    "removed": lambda root: (root / "deep/a.TIF").unlink(),
    "longer": lambda root: edit(root / "b.jpg"),
    "written again": lambda root: touch_again(root / "deep/er/c.webp"),
    "renamed": lambda root: (root / "b.jpg").rename(root / "bb.jpg"),
    "moved": lambda root: (root / "b.jpg").rename(root / "deep/b.jpg"),
    "a link": lambda root: (root / "out.jpg").symlink_to("/etc/hostname"),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "read": lambda root: (root / "b.jpg").read_bytes(),
    "text added": lambda root: touch(root, "notes.txt"),
    "folder added": lambda root: (root / "empty").mkdir(),
    "permissions": lambda root: (root / "b.jpg").chmod(0o600),
}


@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_the_fingerprint_changes_with_the_images_alone(root: Path, change: str) -> None:
    for place in (str(root), f"{root}/**/*.*[gGFfp]"):
        before = list_images(place).fingerprint
        assert list_images(place).fingerprint == before
    before = list_images(str(root)).fingerprint
    {**CHANGES, **NO_CHANGES}[change](root)
    assert (list_images(str(root)).fingerprint != before) == (change in CHANGES)


def test_a_target_that_changes_is_seen_through_its_link(root: Path) -> None:
    touch(root, "originals.txt")
    (root / "link.jpg").symlink_to("originals.txt")
    before = list_images(str(root)).fingerprint
    edit(root / "originals.txt")
    assert list_images(str(root)).fingerprint != before


@pytest.mark.usefixtures("empty_cache")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [
        b"new\nline.jpg",
        b"\xff\xfe.jpg",
        "größe.jpg".encode(),
        b"-rf *.jpg",
        b'",;.jpg',
        b"\x1b[31m.jpg",
    ]
    try:
        for number in range(30):
            names.append(b"%d-\xe9.jpg" % number)
        for number, name in enumerate(names):
            with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123 (bytes)
                noise(8, 8, number).save(file, "PNG")
        (folder / os.fsdecode(b"bad\n\xff.jpg")).write_bytes(b"no image")
    except OSError:
        pytest.skip("file names are text here")
    assert set(map(os.fsencode, list_images(str(folder)).files)) == {*names, b"bad\n\xff.jpg"}
    data = load_data("folder", path=str(folder), crop_size=4)
    assert len(data.train) + len(data.validation) == len(names)
    assert list(data.left_out) == [os.fsdecode(b"bad\n\xff.jpg")]
    [table] = (tmp_path / "cache/mixcoder/packed").glob("*.csv")
    assert table.read_bytes() == b'image,reason\n"bad\n\\udcff.jpg",is not an image of a known format\n'
    assert load_data("folder", path=str(folder), crop_size=4).content_hash() == data.content_hash()
