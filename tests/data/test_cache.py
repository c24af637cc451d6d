"""Rows that take long to make are made once."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from mvae.data import cache
from mvae.data.cache import DONE, cached
from mvae.files import DataError, read_json

COLUMNS = {"image": (2, 3), "string": (4,)}


def numbered(rows: range) -> dict[str, np.ndarray]:
    numbers = np.array(rows)[:, None]
    return {
        "image": ((numbers + np.arange(6)) % 251).astype(np.uint8).reshape(-1, 2, 3),
        "string": (numbers % 7 + np.arange(4)).astype(np.uint8),
    }


def refuse(rows: range) -> dict[str, np.ndarray]:
    raise AssertionError("nothing should be made")


def fail_late(rows: range) -> dict[str, np.ndarray]:
    if rows.start >= 1000:
        raise ValueError("row 1000 is no image")
    return numbered(rows)


def check(made: dict[str, np.ndarray], count: int) -> None:
    for name, values in numbered(range(count)).items():
        np.testing.assert_array_equal(made[name], values)


def test_rows_are_made_once_and_mapped(tmp_path):
    check(cached(tmp_path, "own", {"a": 1}, COLUMNS, 1234, numbered), 1234)
    again = cached(tmp_path, "own", {"a": 1}, COLUMNS, 1234, refuse)
    check(again, 1234)
    assert isinstance(again["image"], np.memmap)
    again["image"][:] = 0  # no file changes
    check(cached(tmp_path, "own", {"a": 1}, COLUMNS, 1234, refuse), 1234)


def test_other_settings_have_a_cache_of_their_own(tmp_path):
    cached(tmp_path, "own", {"a": 1}, COLUMNS, 10, numbered)
    with pytest.raises(AssertionError, match="nothing should be made"):
        cached(tmp_path, "own", {"a": 2}, COLUMNS, 10, refuse)
    check(cached(tmp_path, "own", {"a": 1}, COLUMNS, 10, refuse), 10)


def test_what_was_finished_before_a_fault_is_kept(tmp_path):
    with pytest.raises(ValueError, match="row 1000 is no image"):
        cached(tmp_path, "own", {}, COLUMNS, 1600, fail_late)
    (place,) = tmp_path.iterdir()
    assert read_json(place / DONE)["chunks"] == [0, 1]
    check(cached(tmp_path, "own", {}, COLUMNS, 1600, numbered), 1600)


def test_a_killed_process_loses_no_finished_rows(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_cache
        from mvae.data.cache import cached

        cached({str(tmp_path)!r}, "own", {{}}, test_cache.COLUMNS, 5000, test_cache.stuck)  # a script without a guard
        """
    ).replace(repr(str(tmp_path)), f"__import__('pathlib').Path({str(tmp_path)!r})")
    (tmp_path.parent / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path.parent / "script.py")], start_new_session=True)
    done = []
    for _ in range(2000):
        time.sleep(0.1)
        found = list(tmp_path.glob(f"*/{DONE}"))
        done = read_json(found[0])["chunks"] if found else []
        if len(done) >= 3 or process.poll() is not None:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(done) < 10
    made = []
    inner = cache._made

    def remember(name, chunks, finished, make):
        made.extend(sorted(finished))
        return inner(name, chunks, finished, make)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_made", remember)
        check(cached(tmp_path, "own", {}, COLUMNS, 5000, numbered), 5000)
    assert set(done) <= set(made)


def stuck(rows: range) -> dict[str, np.ndarray]:
    """Four pieces are made; the others would not end by themselves."""
    time.sleep(3600 if rows.start >= 2000 else 0.3)  # shorter tasks are sent several at a time
    return numbered(rows)


def slow(rows: range) -> dict[str, np.ndarray]:
    time.sleep(0.5)
    return numbered(rows)


def test_a_damaged_file_is_named(tmp_path):
    cached(tmp_path, "own", {}, COLUMNS, 10, numbered)
    (path,) = tmp_path.glob("*/image.npy")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"image.npy: damaged .*delete .*own-"):
        cached(tmp_path, "own", {}, COLUMNS, 10, refuse)


def test_two_processes_that_make_one_cache_make_it_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import test_cache
            from mvae.data.cache import cached

            made = cached(Path({str(tmp_path / "cache")!r}), "own", {{}}, test_cache.COLUMNS, 2000, test_cache.slow)
            test_cache.check(made, 2000)
            """
        )
    )
    both = [subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("preparing own" in text for text in said) == 1
    check(cached(tmp_path / "cache", "own", {}, COLUMNS, 2000, refuse), 2000)
