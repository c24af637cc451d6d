"""Files of data sets: found, fetched, checked and read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from mvae.files import DataError, shortened

__all__ = ["Collection", "cache_folder", "data_places", "decoded_lines", "locate", "md5_of", "read_bytes", "text_lines"]


LARGEST = 2**28
"""Bytes of a file that are read: five times those of the largest that is published."""
PIECE = 2**20
PATIENCE, SLOWEST = 10, 1000
"""Seconds without as many bytes a second after which a download is given up."""
_FOLDERS: set[str] = set()
"""The folders of all collections."""


@dataclass(frozen=True)
class Collection:
    """The files of a data set as its authors publish them."""

    folder: str
    """The folder they lie in, below a data directory."""
    contents: Mapping[str, tuple[str, int]]
    """File name to the md5 and the size of its uncompressed contents; a `.gz` may be compressed anew."""
    mirrors: Sequence[str]
    """Addresses of folders that serve the files, tried in turn."""

    def __post_init__(self) -> None:
        _FOLDERS.add(self.folder)

    def find(self, data_dir: str | Path | None = None) -> dict[str, Path]:
        """The paths of all files, from the first of `data_places` that has them, as `locate`.

        A place may be the folder itself or the directory above it, and a `.gz` may have been unpacked.
        """
        return locate(self.folder, self.contents, data_dir, f", or run 'mvae data fetch {self.folder}'")

    def fetch(self, data_dir: str | Path | None = None) -> Path:
        """Download missing files into a folder of `data_dir` or of the user cache. Nothing that exists is replaced.

        `$MVAE_MIRROR`, where set, is asked before the published mirrors: the address of a folder above `folder`.

        Raises:
            DataError: if a file there has other contents than published, or no mirror serves the right ones.
        """
        folder = (Path(data_dir) if data_dir is not None else cache_folder()) / self.folder
        own = os.environ.get("MVAE_MIRROR")
        mirrors = ([f"{own.rstrip('/')}/{self.folder}/"] if own else []) + list(self.mirrors)
        folder.mkdir(parents=True, exist_ok=True)
        for name, (md5, size) in self.contents.items():
            path = _present(folder, name)
            if path is None:
                _download(folder / name, md5, size, mirrors)
            elif md5_of(path) != md5:
                raise DataError(f"{path}: its contents are not the published ones; move it away to fetch it anew")
        return folder

    def check(self, data_dir: str | Path | None = None) -> list[tuple[Path, bool]]:
        """Each file's path, and whether its contents are the published ones; errors as `find`."""
        return [(path, md5_of(path) == self.contents[name][0]) for name, path in self.find(data_dir).items()]


def locate(
    folder: str, names: Sequence[str] | Mapping[str, object], data_dir: str | Path | None = None, advice: str = ""
) -> dict[str, Path]:
    """The paths of files and folders, from the first of `data_places`, or its subfolder, that has them all.

    Raises:
        DataError: if no place has them all, naming the places and what is missing; it ends with the advice.
    """
    places = data_places(data_dir)
    searched = [", ".join(map(str, places))]
    for place in places:
        # mnist/ and fashion-mnist/ hold files of the same names: neither is taken for the other
        itself = [] if place.resolve().name in _FOLDERS - {folder} else [place]
        for here in (place / folder, *itself):
            found = {name: path for name in names if (path := _present(here, name))}
            if len(found) == len(names):
                return found
            if found:
                searched.append(f"{here} lacks {', '.join(sorted(set(names) - found.keys()))}")
    raise DataError(
        f"no {folder} files in {'; '.join(searched)}. Put {', '.join(names)} into DIR/{folder} and pass --data-dir DIR"
        f" or set MVAE_DATA=DIR{advice}"
    )


def data_places(data_dir: str | Path | None = None) -> list[Path]:
    """The folders to search for data sets, in order: `data_dir` (which must exist), `$MVAE_DATA`, the user cache."""
    if data_dir is not None and not Path(data_dir).is_dir():
        raise DataError(f"data directory {data_dir}: not a folder")
    return [Path(place) for place in (data_dir, os.environ.get("MVAE_DATA"), cache_folder()) if place]


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """The contents of a file, unpacked where its name ends in `.gz`: of one with more than `most` bytes, one more.

    A `DataError` if it cannot be read.
    """
    with _unpacked(path) as file:
        return file.read(most + 1)


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as {'gzip' if path.suffix == '.gz' else 'a file'}: {error}") from error


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file without their line ends; a `DataError` if it cannot be read, as `decoded_lines`."""
    try:
        with path.open("rb") as file:
            yield from decoded_lines(file, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def decoded_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines of UTF-8, of a file of that name, without their line ends; a `DataError` names a line that is not."""
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: not UTF-8: {error.reason} at byte {error.start}") from None


def md5_of(path: Path) -> str:
    """md5 of the uncompressed contents; of the first of them, where they have more than `LARGEST` bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    with _unpacked(path) as file:
        for _ in range(LARGEST // PIECE + 1):
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def cache_folder() -> Path:
    """The user cache: where files that were fetched or made are kept."""
    import pooch

    return Path(pooch.os_cache("mvae"))


def _present(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / name.removesuffix(".gz")) if p.exists()), None)


def _download(target: Path, md5: str, size: int, mirrors: Sequence[str]) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print a checksum of its own
    faults = []
    for mirror in mirrors:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-", ignore_cleanup_errors=True) as folder:
            try:
                partial = _served(mirror + target.name, Path(folder) / target.name, size + size // 100 + 1024)
                if md5_of(partial) == md5:
                    partial.rename(target)
                    return
                faults.append(f"{mirror}: other contents than published")
            except (OSError, ValueError) as error:
                faults.append(f"{mirror}: {shortened(error)}")
    raise DataError(f"{target.name}: no mirror served it. {'; '.join(faults)}")


def _served(address: str, path: Path, most: int) -> Path:
    """Download to a path, by a thread that is left alone when too little comes; at most so many bytes."""
    import pooch
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __bool__(self) -> bool:
            return True

        def update(self, count: float | None = 1) -> bool | None:
            if self.n + (count or 0) > most:
                raise DataError(f"more than the {most:,} bytes that were published")
            return super().update(count)

    bar, faults = Bar(unit="B", unit_scale=True, desc=path.name), list[Exception]()
    get = pooch.HTTPDownloader(progressbar=bar, chunk_size=SLOWEST, timeout=PATIENCE)

    def run() -> None:
        try:
            pooch.retrieve(address, None, path.name, path.parent, downloader=get)
        except Exception as error:  # raised below
            faults.append(error)

    thread, before = Thread(target=run, daemon=True), 0.0
    thread.start()
    with bar:
        thread.join(PATIENCE)
        while thread.is_alive():
            if bar.n - before < PATIENCE * SLOWEST:
                raise DataError(f"fewer than {SLOWEST:,} bytes a second")
            before = bar.n
            thread.join(PATIENCE)
    if faults:
        raise faults[0]
    return path
