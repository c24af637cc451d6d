"""Files of data sets: found, fetched, checked and read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvae.files import DataError

__all__ = ["Collection", "cache_folder", "data_places", "decoded_lines", "locate", "md5_of", "read_bytes", "text_lines"]


_FOLDERS: set[str] = set()
"""The folders of all collections."""


@dataclass(frozen=True)
class Collection:
    """The files of a data set as its authors publish them."""

    folder: str
    """The folder they lie in, below a data directory."""
    contents: Mapping[str, str]
    """File name to the md5 of its uncompressed contents; a `.gz` may be compressed anew."""
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
        for name, md5 in self.contents.items():
            path = _present(folder, name)
            if path is None:
                _download(folder / name, md5, mirrors)
            elif md5_of(path) != md5:
                raise DataError(f"{path}: its contents are not the published ones; move it away to fetch it anew")
        return folder

    def check(self, data_dir: str | Path | None = None) -> list[tuple[Path, bool]]:
        """Each file's path, and whether its contents are the published ones; errors as `find`."""
        return [(path, md5_of(path) == self.contents[name]) for name, path in self.find(data_dir).items()]


def locate(
    folder: str, names: Sequence[str] | Mapping[str, str], data_dir: str | Path | None = None, advice: str = ""
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


def read_bytes(path: Path) -> bytes:
    """The contents of a file, unpacked where its name ends in `.gz`; a `DataError` if it cannot be read."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
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
    """md5 of the uncompressed contents."""
    return hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()


def cache_folder() -> Path:
    """The user cache: where files that were fetched or made are kept."""
    import pooch

    return Path(pooch.os_cache("mvae"))


def _present(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / name.removesuffix(".gz")) if p.exists()), None)


def _download(target: Path, md5: str, mirrors: Sequence[str]) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print a checksum of its own
    faults = []
    partial = target.with_name(f"partial-{target.name}")
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + target.name, None, partial.name, target.parent, progressbar=True)
            if md5_of(partial) == md5:
                partial.rename(target)
                return
            faults.append(f"{mirror}: other contents than published")
        except (OSError, ValueError) as error:
            faults.append(f"{mirror}: {error}")
        finally:
            partial.unlink(missing_ok=True)
    raise DataError(f"{target.name}: no mirror served it. {'; '.join(faults)}")
