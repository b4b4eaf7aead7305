"""Data sets that were published once, in files of known names and checksums.

folders of this machine, other programs' too ─▶ found ───────┐
mirrors ─▶ published files, checked ─▶ the first folder ─▶ found ─▶ read ─▶ ImageData
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mixcoder.data.data_folders import data_folders, data_places
from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.net.download import download
from mixcoder.data.source import DataSource
from mixcoder.data.split import ImageData
from mixcoder.errors import ArgumentError, DataError


class PublishedSource(DataSource):
    """A data set of known files. A subclass states them, and how they are read.

    Attributes:
        name: of the data source.
        homes: folders in which other programs keep the files, below a folder of data.
        mirrors: addresses of folders with the published files.
        checksums: MD5 (hex) of the published files by name.
        max_bytes: a published file is not longer.
    """

    name: ClassVar[str]
    homes: ClassVar[tuple[str, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    checksums: ClassVar[Mapping[str, str]]
    max_bytes: ClassVar[int]
    is_known_by_name = True

    @abstractmethod
    def is_whole(self, folder: Path) -> bool:
        """Returns whether a folder holds all that `read` needs, in any of the forms that it reads."""

    @abstractmethod
    def read(self, folder: Path) -> ImageData:
        """Returns the images that lie in a folder.

        Raises:
            DataError: a file is damaged.
        """

    def lacks(self, folder: Path, file: str) -> bool:
        """Returns whether a published file has to be fetched to a folder."""
        return not (folder / file).is_file()

    def unpack(self, folder: Path) -> None:
        """Makes of the published files what `read` reads fast; here they are that already."""

    def folder(self) -> Path | None:
        """Returns the first folder that holds all files; None where there is none."""
        places = data_places(self.name, self.homes)
        return next((folder for folder in places if self.is_whole(folder)), None)

    def prepare(self, progress: StartTask = no_progress) -> str:
        if not self.folder():
            self.fetch(progress=progress)
        return ""

    def load(self) -> ImageData:
        folder = self.folder()
        if folder is None:
            self.fetch()
            folder = self.found_folder()
        return self.read(folder)

    def is_fetched(self) -> bool:
        return self.folder() is not None

    def status(self) -> str:
        folder = self.folder()
        return f"ready in {folder}" if folder else "not fetched yet"

    def found_folder(self) -> Path:
        """Returns the folder that holds all files.

        Raises:
            DataError: there is none.
        """
        folder = self.folder()
        if not folder:
            raise DataError(f"{self.name} is not on this machine; mixcoder data fetch {self.name} brings it")
        return folder

    def fetch(
        self, origin: str | None = None, sha256: str | None = None, progress: StartTask = no_progress
    ) -> None:
        """Brings the files that are missing to this machine.

        Args:
            origin: address of a folder to fetch from, in place of the well-known ones.
            sha256: not for files whose checksums are known.
            progress: told of each file.

        Raises:
            DataError: no mirror brought them; says which files to put where.
        """
        if sha256:
            raise ArgumentError("sha256", f"the checksums of {self.name} are known; leave it out")
        if self.folder():
            return
        folder = data_folders(self.name)[0]
        for file in self.checksums:
            if self.lacks(folder, file):
                self._fetch_file(folder, file, (origin,) if origin else self.mirrors, progress)
        self.unpack(folder)

    def _fetch_file(self, folder: Path, file: str, mirrors: tuple[str, ...], progress: StartTask) -> None:
        try:
            download(
                [f"{address.rstrip('/')}/{file}" for address in mirrors],
                folder / file,
                checksum=f"md5:{self.checksums[file]}",
                max_bytes=self.max_bytes,
                progress=progress(f"fetching {file}", "bytes"),
            )
        except DataError as error:
            files = ", ".join(self.checksums)
            raise DataError(
                f"{self.name} is not on this machine and cannot be fetched; "
                f"put {files} into {folder} ({error})"
            ) from error
