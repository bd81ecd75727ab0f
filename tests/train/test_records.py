"""Rows and files: torn lines, full disks, locks, atomic replacement."""

import errno
import json
import os
from pathlib import Path

import pytest

from plausible.train import StorageError, files, records
from plausible.train.records import Records


def test_every_row_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Records(path) as rows:
        rows.write({"a": 1, "b": [0.1, None]})
        assert path.read_bytes() == b'{"a": 1, "b": [0.1, null]}\n'
        rows.write({"a": 2})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1, "b": [0.1, None]}, {"a": 2}]
        assert rows.sync() == path.stat().st_size


def test_not_a_number_becomes_null(tmp_path):
    with Records(tmp_path / "rows.jsonl") as rows:
        rows.write({"a": float("nan"), "b": {"c": [float("inf"), 1.0]}})
    assert (tmp_path / "rows.jsonl").read_text() == '{"a": null, "b": {"c": [null, 1.0]}}\n'


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3')
    assert list(records.read(path)) == [{"a": 1}, {"a": 2}]


def test_damage_before_the_last_line_is_reported(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(StorageError, match=r"rows\.jsonl, line 2, is damaged"):
        list(records.read(path))


def test_rewinding_cuts_off_what_came_later(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Records(path) as rows:
        rows.write({"a": 1})
        kept = rows.sync()
        rows.write({"a": 2})
    with Records(path) as rows:
        rows.rewind(kept)
        rows.write({"a": 3})
    assert list(records.read(path)) == [{"a": 1}, {"a": 3}]


def test_missing_rows_are_not_made_up(tmp_path):
    with Records(tmp_path / "rows.jsonl") as rows:
        rows.write({"a": 1})
        with pytest.raises(StorageError, match="rows are missing"):
            rows.rewind(rows.sync() + 1)


def test_one_process_at_a_time(tmp_path):
    with (
        Records(tmp_path / "rows.jsonl"),
        pytest.raises(StorageError, match="another process"),
        Records(tmp_path / "rows.jsonl"),
    ):
        pass
    with Records(tmp_path / "rows.jsonl") as rows:
        rows.write({"a": 1})
    assert list(records.read(tmp_path / "rows.jsonl")) == [{"a": 1}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_so():
    with pytest.raises(StorageError, match=r"/dev/full .*the disk is full.*Make room"), Records(Path("/dev/full")) as r:
        r.write({"a": 1})


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_on_a_full_disk_the_old_file_stays(tmp_path):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    (tmp_path / ".file.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="file could not be written: the disk is full"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    # The order of the system calls is what makes it survive a power cut; a test cannot cut the power.
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    files.write_atomically(tmp_path / "file", b"x")
    assert calls == [str(tmp_path / ".file.tmp"), "replace", str(tmp_path)]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "full"), (errno.EACCES, "permission"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output")],
)
def test_errors_of_the_system_name_path_and_cause(number, words):
    expected = pytest.raises(StorageError, match=f"/some/where could not be read.*{words}")
    with expected, files.explained("read", Path("/some/where")):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_way_of_a_directory(tmp_path):
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(StorageError, match=r"taken.*Choose another directory"):
            files.make_directory(path)
