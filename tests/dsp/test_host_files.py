"""Output files: whole or not at all, through links and devices, never over an input."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import check_outputs, write_whole
from airnet_sdr.tests.command import ROOT, environment


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to(tmp_path / "there" / "r.json")
    write_whole(link, b"one")
    write_whole(link, b"two")
    assert link.is_symlink() and (tmp_path / "there" / "r.json").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["r.json"]


def test_a_fifo_is_written_through_and_stays(tmp_path):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="fifo cannot be written"):
        write_whole(fifo, b"nobody reads")
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    while not got and reader.is_alive():
        try:
            write_whole(fifo, b"x" * 200_000)
            break
        except InputError:  # the reader has not opened it yet
            continue
    reader.join()
    assert got == [b"x" * 200_000] and not fifo.is_file() and [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_a_device_is_written_through(tmp_path):
    """A terminal's: no file can be made beside it, so that a failure of this test does no harm."""
    ours, theirs = os.openpty()
    try:
        name = os.ttyname(theirs)
        link = tmp_path / "terminal"
        link.symlink_to(name)
        for path in (name, link):
            write_whole(path, b"shown\n")
            assert os.read(ours, 100).strip() == b"shown"
        assert stat.S_ISCHR(os.stat(name).st_mode) and link.is_symlink()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_function_writes_the_file_and_nothing_is_left_where_it_fails(tmp_path):
    def fail(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "a" / "b", lambda path: path.write_bytes(b"whole"))
    with pytest.raises(InputError, match="No space left"):
        write_whole(tmp_path / "a" / "b", fail)
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"whole"]
    ours, theirs = os.openpty()
    write_whole(os.ttyname(theirs), lambda path: path.write_bytes(b"shown\n"))
    assert os.read(ours, 100).strip() == b"shown"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("name", ["", "folder/", "folder", "a" * 300, "..", "a\0b", "file/below"])
def test_names_that_cannot_be_written_are_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        write_whole(name, b"content")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_output_is_no_input_and_no_other_output(tmp_path):
    source = tmp_path / "net.safetensors"
    source.write_bytes(b"weights")
    link = tmp_path / "link"
    link.symlink_to(source)
    for outputs in ([source], [None, link], ["r.json", "r.json"], ["r.json", f"../{tmp_path.name}/r.json"]):
        with pytest.raises(InputError, match="name another output"):
            check_outputs([each and tmp_path / each for each in outputs], [source, None])
    check_outputs([tmp_path / "a", tmp_path / "b", None, "/dev/null", "/dev/null"], [source, tmp_path / "missing"])


def test_an_output_that_is_a_folder_is_refused_beforehand(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for output in (tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match="cannot be written: it is a folder; name a file in it"):
            check_outputs([output])


@pytest.mark.parametrize("end", ["| true", ">/dev/full"])
def test_a_standard_output_that_cannot_be_written_is_one_line(end):
    command = f'"{sys.executable}" tx/send.py --list {end}; exit ${{PIPESTATUS[0]}}'
    for _ in range(5):  # whether the reader is gone by then is a race
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env=environment())
        assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 1, done.stderr
        assert done.returncode in ((0, 1) if end == "| true" else (1,)), done
