"""Where the files of a data set are, fetching those that are not there, and checking contents."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvae.files import DataError

__all__ = [
    "Collection",
    "cache_folder",
    "content_md5",
    "data_places",
    "decoded_lines",
    "read_bytes",
    "text_lines",
]


_FOLDERS: set[str] = set()
"""The folders of all collections."""


@dataclass(frozen=True)
class Collection:
    """The files of a data set as its authors publish them.

    Args:
        folder: the folder they lie in, below a data directory.
        contents: file name to the md5 of its contents, uncompressed: a re-compressed `.gz` with the right contents is
            right.
        mirrors: addresses of folders that serve the files, tried in turn.
    """

    folder: str
    contents: Mapping[str, str]
    mirrors: Sequence[str]

    def __post_init__(self) -> None:
        _FOLDERS.add(self.folder)

    def find(self, data_dir: str | Path | None = None) -> dict[str, Path]:
        """The paths of all files, from the first place that has them: `data_dir`, `$MVAE_DATA`, the user cache.

        A place may be the folder itself or the directory above it, and a `.gz` may have been unpacked.

        Raises:
            DataError: if no place has them all, naming the places, what is missing and how to fetch it.
        """
        places = data_places(data_dir)
        missing = []
        for place in places:
            # mnist/ and fashion-mnist/ hold files of the same names: neither is taken for the other
            itself = [] if place.resolve().name in _FOLDERS - {self.folder} else [place]
            for folder in (place / self.folder, *itself):
                found = {name: path for name in self.contents if (path := _present(folder, name))}
                if len(found) == len(self.contents):
                    return found
                if found:
                    missing.append(f"{folder} lacks {', '.join(sorted(self.contents.keys() - found.keys()))}")
        raise DataError(
            f"no {self.folder} files in {', '.join(map(str, places))}"
            + "".join(f"; {line}" for line in missing)
            + f". Put {', '.join(self.contents)} into DIR/{self.folder} and pass --data-dir DIR or set MVAE_DATA=DIR,"
            f" or run 'mvae data fetch {self.folder}'"
        )

    def fetch(self, data_dir: str | Path | None = None) -> Path:
        """Download what is not there yet, into `data_dir` or the user cache. Nothing that exists is replaced.

        `$MVAE_MIRROR`, where set, is asked before the published mirrors: the address of a folder above `folder`.

        Returns:
            The folder.

        Raises:
            DataError: if a file that is there has other contents than published, or no mirror serves the right ones.
        """
        folder = (Path(data_dir) if data_dir is not None else cache_folder()) / self.folder
        own = os.environ.get("MVAE_MIRROR")
        mirrors = ([f"{own.rstrip('/')}/{self.folder}/"] if own else []) + list(self.mirrors)
        folder.mkdir(parents=True, exist_ok=True)
        for name, md5 in self.contents.items():
            path = _present(folder, name)
            if path is None:
                _download(folder / name, md5, mirrors)
            elif content_md5(path) != md5:
                raise DataError(f"{path}: its contents are not the published ones; move it away to fetch it anew")
        return folder

    def check(self, data_dir: str | Path | None = None) -> list[tuple[Path, bool]]:
        """Each file's path, and whether its contents are the published ones.

        Raises:
            DataError: if files are missing or cannot be read.
        """
        return [(path, content_md5(path) == self.contents[name]) for name, path in self.find(data_dir).items()]


def data_places(data_dir: str | Path | None = None) -> list[Path]:
    """Where files of data sets are looked for, in this order: `data_dir`, `$MVAE_DATA`, the user cache.

    Raises:
        DataError: if `data_dir` is no folder.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise DataError(f"data directory {data_dir}: not a folder")
    environment = os.environ.get("MVAE_DATA")
    return [Path(place) for place in (data_dir, environment, cache_folder()) if place]


def read_bytes(path: Path) -> bytes:
    """The contents of a file, uncompressed where its name ends in `.gz`.

    Raises:
        DataError: if it cannot be read or unpacked.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"{path}: cannot be read as {'gzip' if path.suffix == '.gz' else 'a file'}: {error}") from error


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, one by one, without what ends them.

    Raises:
        DataError: if it cannot be read, or naming a line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from decoded_lines(file, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def decoded_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines of UTF-8, one by one, without what ends them.

    Args:
        lines: such as an open file gives.
        name: of what they come from.

    Raises:
        DataError: naming a line that is not UTF-8.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            fault = f"not UTF-8: {error.reason} at byte {error.start}"
            raise DataError(f"{name}, line {number}: {fault}") from None


def content_md5(path: Path) -> str:
    """md5 of the uncompressed contents."""
    return hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()


def cache_folder() -> Path:
    """The user cache: where files that were fetched or made are kept."""
    import pooch

    return Path(pooch.os_cache("mvae"))


def _present(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / name.removesuffix(".gz")) if p.is_file()), None)


def _download(target: Path, md5: str, mirrors: Sequence[str]) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print a checksum of its own
    faults = []
    partial = target.with_name(f"partial-{target.name}")
    for mirror in mirrors:
        try:
            pooch.retrieve(
                mirror + target.name, known_hash=None, path=target.parent, fname=partial.name, progressbar=True
            )
            if content_md5(partial) == md5:
                partial.rename(target)
                return
            faults.append(f"{mirror}: other contents than published")
        except (OSError, ValueError) as error:
            faults.append(f"{mirror}: {error}")
        finally:
            partial.unlink(missing_ok=True)
    raise DataError(f"{target.name}: no mirror served it. {'; '.join(faults)}")
