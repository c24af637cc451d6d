"""Where data files are looked for, how they are fetched and what is refused. The mirrors are real local servers."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import socket
import threading

import pytest

from mvae.data import download
from mvae.data.download import Collection, read_bytes
from mvae.files import DataError

CONTENTS = {"words.txt.gz": b"one two three " * 50, "numbers.bin": bytes(range(256))}


def collection(*mirrors):
    known = {name: (hashlib.md5(content).hexdigest(), len(content)) for name, content in CONTENTS.items()}
    return Collection("things", known, mirrors)


def write(folder, contents=CONTENTS):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Serve a folder on 127.0.0.1; returns its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def serve(folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def dead():
    """An address that nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Finding


def test_looks_in_the_given_directory_then_mvae_data_then_the_cache(tmp_path, nowhere, monkeypatch):
    cached = write(nowhere / "mvae" / "things")
    assert {path.parent for path in collection().find().values()} == {cached}
    named = write(tmp_path / "named" / "things")
    monkeypatch.setenv("MVAE_DATA", str(tmp_path / "named"))
    assert {path.parent for path in collection().find().values()} == {named}
    given = write(tmp_path / "given" / "things")
    assert {path.parent for path in collection().find(tmp_path / "given").values()} == {given}


def test_a_place_may_be_the_folder_itself(tmp_path, nowhere):
    folder = write(tmp_path / "copied-from-somewhere")
    assert collection().find(folder)["numbers.bin"] == folder / "numbers.bin"


def test_an_unpacked_file_counts(tmp_path, nowhere):
    folder = write(tmp_path / "things")
    (folder / "words.txt.gz").unlink()
    (folder / "words.txt").write_bytes(CONTENTS["words.txt.gz"])
    assert collection().find(tmp_path)["words.txt.gz"] == folder / "words.txt"
    assert [published for _, published in collection().check(tmp_path)] == [True, True]


def test_a_recompressed_file_counts_as_published(tmp_path, nowhere):
    folder = write(tmp_path / "things")
    before = (folder / "words.txt.gz").read_bytes()
    (folder / "words.txt.gz").write_bytes(gzip.compress(CONTENTS["words.txt.gz"], compresslevel=1, mtime=7))
    assert (folder / "words.txt.gz").read_bytes() != before
    assert [published for _, published in collection().check(tmp_path)] == [True, True]


def test_check_tells_which_file_has_other_contents(tmp_path, nowhere):
    folder = write(tmp_path / "things", CONTENTS | {"numbers.bin": b"others"})
    assert dict(collection().check(tmp_path)) == {folder / "words.txt.gz": True, folder / "numbers.bin": False}


def test_an_incomplete_place_is_passed_over(tmp_path, nowhere, monkeypatch):
    (write(tmp_path / "given" / "things") / "numbers.bin").unlink()
    whole = write(tmp_path / "named" / "things")
    monkeypatch.setenv("MVAE_DATA", str(tmp_path / "named"))
    assert {path.parent for path in collection().find(tmp_path / "given").values()} == {whole}


def test_missing_files_are_named_with_the_places_and_the_command(tmp_path, nowhere, monkeypatch):
    (write(tmp_path / "given" / "things") / "numbers.bin").unlink()
    monkeypatch.setenv("MVAE_DATA", str(tmp_path / "named"))
    with pytest.raises(DataError) as error:
        collection().find(tmp_path / "given")
    message = str(error.value)
    for place in (tmp_path / "given", tmp_path / "named", nowhere / "mvae"):
        assert str(place) in message
    assert f"{tmp_path / 'given' / 'things'} lacks numbers.bin" in message
    assert "mvae data fetch things" in message
    assert "\n" not in message


def test_a_data_directory_that_is_none_is_refused(tmp_path, nowhere):
    with pytest.raises(DataError, match=r"absent: not a folder"):
        collection().find(tmp_path / "absent")


# Reading


def test_reads_packed_and_plain_files(tmp_path):
    folder = write(tmp_path)
    assert {name: read_bytes(folder / name) for name in CONTENTS} == CONTENTS


@pytest.mark.parametrize("kept", [5, 30, -8, -1])
def test_a_truncated_gzip_file_is_named(tmp_path, kept):
    path = tmp_path / "words.txt.gz"
    path.write_bytes(gzip.compress(CONTENTS["words.txt.gz"])[:kept])
    with pytest.raises(DataError, match=r"words\.txt\.gz: cannot be read as gzip"):
        read_bytes(path)


def test_every_damaged_byte_of_a_gzip_file_is_found_or_harmless(tmp_path):
    whole = gzip.compress(CONTENTS["words.txt.gz"], mtime=0)
    path = tmp_path / "words.txt.gz"
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            assert read_bytes(path) == CONTENTS["words.txt.gz"]  # e.g. a changed date
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_a_file_that_is_not_gzip_is_named(tmp_path):
    path = tmp_path / "words.txt.gz"
    path.write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(DataError, match=r"words\.txt\.gz: cannot be read as gzip"):
        read_bytes(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"numbers\.bin: cannot be read"):
        read_bytes(tmp_path / "numbers.bin")


# Fetching


def test_fetch_lands_the_right_contents_and_nothing_else(tmp_path, nowhere, serve):
    folder = collection(serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert folder == tmp_path / "data" / "things"
    assert {name: read_bytes(folder / name) for name in names(folder)} == CONTENTS


def test_fetch_goes_to_the_user_cache_and_is_found_there(tmp_path, nowhere, serve):
    things = collection(serve(write(tmp_path / "server")))
    assert things.fetch() == nowhere / "mvae" / "things"
    assert [published for _, published in things.check()] == [True, True]


def test_own_mirror_is_asked_first(tmp_path, nowhere, serve, monkeypatch):
    wrong = serve(write(tmp_path / "published", dict.fromkeys(CONTENTS, b"wrong")))
    write(tmp_path / "own" / "things")
    monkeypatch.setenv("MVAE_MIRROR", serve(tmp_path / "own"))
    folder = collection(wrong).fetch(tmp_path / "data")
    assert {name: read_bytes(folder / name) for name in names(folder)} == CONTENTS


def test_a_dead_mirror_is_passed_over(tmp_path, nowhere, serve, dead):
    folder = collection(dead, serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert names(folder) == sorted(CONTENTS)


def test_a_mirror_that_lacks_a_file_is_passed_over(tmp_path, nowhere, serve):
    (tmp_path / "empty").mkdir()
    folder = collection(serve(tmp_path / "empty"), serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert names(folder) == sorted(CONTENTS)


def test_a_mirror_with_wrong_contents_is_passed_over(tmp_path, nowhere, serve):
    wrong = serve(write(tmp_path / "wrong", dict.fromkeys(CONTENTS, b"wrong")))
    folder = collection(wrong, serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert {name: read_bytes(folder / name) for name in names(folder)} == CONTENTS


def test_wrong_contents_are_refused_and_leave_nothing(tmp_path, nowhere, serve):
    wrong = serve(write(tmp_path / "server", dict.fromkeys(CONTENTS, b"wrong")))
    with pytest.raises(DataError, match=r"words\.txt\.gz.*other contents than published"):
        collection(wrong).fetch(tmp_path / "data")
    assert names(tmp_path / "data") == []


def test_a_truncated_download_is_refused_and_leaves_nothing(tmp_path, nowhere, serve):
    server = write(tmp_path / "server")
    (server / "words.txt.gz").write_bytes((server / "words.txt.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"words\.txt\.gz: no mirror served it"):
        collection(serve(server)).fetch(tmp_path / "data")
    assert names(tmp_path / "data") == []


def test_when_no_mirror_serves_it_each_is_named_with_its_fault(tmp_path, nowhere, serve, dead):
    (tmp_path / "empty").mkdir()
    empty = serve(tmp_path / "empty")
    with pytest.raises(DataError) as error:
        collection(dead, empty).fetch(tmp_path / "data")
    assert dead in str(error.value)
    assert empty in str(error.value)
    assert "404" in str(error.value)


class Liar(http.server.BaseHTTPRequestHandler):
    """Serves what never ends, or hardly comes."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        piece, pause = (bytes(2**16), 0) if "endless" in self.path else (b"x", 0.02)
        self.server.sent = 0
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(pause):
                self.wfile.write(piece)
                self.server.sent += len(piece)


@pytest.mark.parametrize(
    ("how", "fault"),
    [("endless", "more than the [0-9,]+ bytes that were published"), ("drip", "fewer than 1,000 bytes")],
)
def test_a_download_that_does_not_end_is_given_up(tmp_path, nowhere, serve, monkeypatch, how, fault):
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.ended, server.handle_error = threading.Event(), lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(DataError, match=rf"^words\.txt\.gz: no mirror served it\. http://127.*/{how}/: {fault}"):
            collection(f"http://127.0.0.1:{server.server_port}/{how}/").fetch(tmp_path / "data")
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
    assert server.sent < 2**24  # bytes; most of them in buffers
    assert not [*(tmp_path / "data" / "things").iterdir()]


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "words.txt.gz"
    path.write_bytes(gzip.compress(bytes(2**24)))
    assert len(read_bytes(path, 1000)) == 1001
    monkeypatch.setattr(download, "LARGEST", 2**21)
    assert download.md5_of(path) == hashlib.md5(bytes(3 * 2**20)).hexdigest()


def test_files_that_exist_are_not_fetched_again(tmp_path, nowhere, dead):
    folder = write(tmp_path / "data" / "things")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    collection(dead).fetch(tmp_path / "data")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_only_what_is_missing_is_fetched(tmp_path, nowhere, serve):
    folder = write(tmp_path / "data" / "things")
    (folder / "numbers.bin").unlink()
    before = (folder / "words.txt.gz").stat().st_mtime_ns
    collection(serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert (folder / "words.txt.gz").stat().st_mtime_ns == before
    assert (folder / "numbers.bin").read_bytes() == CONTENTS["numbers.bin"]


def test_a_file_with_other_contents_is_named_and_not_replaced(tmp_path, nowhere, serve):
    folder = write(tmp_path / "data" / "things", CONTENTS | {"numbers.bin": b"mine"})
    with pytest.raises(DataError, match=r"numbers\.bin: its contents are not the published ones"):
        collection(serve(write(tmp_path / "server"))).fetch(tmp_path / "data")
    assert (folder / "numbers.bin").read_bytes() == b"mine"
