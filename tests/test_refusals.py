"""Bad numbers, files and data, as a user meets them: one line that names what is wrong, and nothing written."""

import gzip
import json
import signal
import struct
import textwrap
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data, sensitivity, train
from airnet_sdr.models.batches import as_examples
from airnet_sdr.models.evaluate import accuracy
from airnet_sdr.models.nets import build
from airnet_sdr.models.task import Task
from airnet_sdr.rx import receive
from airnet_sdr.sim import air, loopback
from airnet_sdr.tests.command import assert_refused, finish, run, start
from airnet_sdr.tx import send

LONG_NAME = "a" * 300


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, empty; nothing is left in it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--scheme digital --payload-uses 0", "--payload-uses"),
        ("--scheme digital --payload-uses 1", "1 symbols"),
        ("--scheme digital --payload-uses -1", "--payload-uses"),
        ("--payload-uses 1e14", "--payload-uses"),
        ("--channel-uses 1e14", "--channel-uses"),
        ("--payload-uses nan", "--payload-uses"),
        ("--scheme hybrid --digital-share 1e-9", "0 symbols"),
        ("--scheme hybrid --digital-share nan", "--digital-share"),
        ("--digital-share 0.5", "no effect"),
        ("--scheme digital --expansion auto", "no effect"),
        ("--scheme digital --max-power-db 12", "no effect"),
        ("--uep none --max-power-db 12", "--max-power-db has no effect"),
        ("--uep size --max-power-db 32", "0 to 31.75; got"),
        ("--uep size --max-power-db -1", "--max-power-db"),
        ("--uep size --max-power-db nan", "--max-power-db"),
        ("--snr-db nan", "--snr-db"),
        ("--gain-db nan", "--gain-db"),
        ("--seed -1", "--seed"),
        ("--seed 1e400", "--seed"),
        ("--copies 1.5", "--copies"),
        ("--cycles -3", "--cycles"),
        ("--record=", "''"),
    ],
)
def test_numbers_of_the_sender(model, folder, options, word):
    result = run(send.main, "--model", model, "--radio", "file:sent.sigmf-meta", *options.split())
    assert_refused(result, 1, word)


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (loopback.main, ["--model", "fashion", "--snr-db", "nan"]),
        (loopback.main, ["--model", "fashion", "--plan-snr-db", "nan"]),
        (loopback.main, ["--model", "fashion", "--cycles", "-3"]),
        (loopback.main, ["--model", "fashion", "--seed", "-1"]),
        (air.main, ["--rx", "zmq:tcp://127.0.0.1:9", "--tx", "zmq:tcp://127.0.0.1:9", "--seed", "-1"]),
        (train.main, ["--out", "out", "--seed", "-1"]),
        (train.main, ["--out", "out", "--seed", "1e18"]),
        (train.main, ["--out", "out", "--epochs", "1e30"]),
        (train.main, ["--out", "out", "--max-shift", "1e9"]),
        (sensitivity.main, ["--model", "fashion", "--seed", "1e18"]),
    ],
)
def test_numbers_of_other_commands(folder, main, options):
    assert_refused(run(main, *options), 1, options[-2])


def test_a_name_of_300_characters_and_none_at_all(model, folder):
    long_recording = f"file:{LONG_NAME}.sigmf-meta"
    for main, *options in [
        (send.main, "--model", LONG_NAME, "--radio", "file:sent.sigmf-meta"),
        (send.main, "--model", "", "--radio", "file:sent.sigmf-meta"),
        (send.main, "--model", model, "--radio", long_recording),
        (loopback.main, "--model", LONG_NAME),
        (loopback.main, "--model", ""),
        (receive.main, "--radio", long_recording),
        (receive.main, "--radio", "file:none.sigmf-meta", "--truth", LONG_NAME),
        (receive.main, "--radio", "file:none.sigmf-meta", "--architecture", f"{LONG_NAME}.py:net"),
        (train.main, "--out", LONG_NAME),
        (train.main, "--out", ""),
    ]:
        assert_refused(run(main, *options), 1)


def test_an_address_that_cannot_send_is_refused_before_the_model_is_read(folder):
    for address, *words in [
        ("zmq:tcp://127.0.0.1:5555?pattern=pull", "cannot send with pattern pull"),
        ("file:sent.sigmf-meta", "--cycles 0 sends until stopped"),
    ]:
        assert_refused(run(send.main, "--model", "nosuch", "--cycles", 0, "--radio", address), 1, *words)


def test_a_training_where_nothing_can_be_written_does_not_start(folder):
    (folder / "file").write_text("in the way")
    for place in ("file", "file/below", "/proc/none"):
        assert_refused(run(train.main, "--out", place, "--epochs", 0), 1, "cannot be written", place)
    (folder / "file").unlink()


def test_settings_that_a_radio_does_not_have_are_said(model, tmp_path):
    address = f"file:{tmp_path / 'sent.sigmf-meta'}"
    sent = run(send.main, "--model", model, "--radio", address, "--gain-db", "-10")
    assert sent.status == 0 and "warning: no effect on a file: radio: gain_db" in sent.out
    received = run(receive.main, "--radio", address, "--evaluate", "none", "--num-buffers", "8")
    assert received.status == 0 and "warning: no effect on a file: radio: num_buffers" in received.out


# files


@pytest.mark.parametrize("name", ["widths", "accuracy", "bits", "steps", "parts", "members", "validation"])
@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000, "nan", "[" * 100_000, "1,2,3", '[{"widths": ["a"]}]'])
def test_metadata_of_a_checkpoint(model, folder, name, value):
    path = model.with_name("bad.safetensors")
    known = {"arch": "fashion", "dataset": "fashion-mnist", "accuracy": "0.1"}
    save_file(load_file(model), path, {**known, name: value})
    result = run(send.main, "--model", path, "--radio", "file:sent.sigmf-meta", "--scheme", "digital")
    assert_refused(result, 1)


WRONG = ["x", 1e400, -1, True, [], {}, None, 10**400, "a" * 400, [[1]]]
FIELDS = [
    ("global", "core:sample_rate"),
    ("global", "core:datatype"),
    ("global", "core:num_channels"),
    ("captures", 0, "core:frequency"),
    ("captures", 0),
    ("annotations", 0, "core:sample_start"),
    ("annotations", 0, "core:sample_count"),
    ("annotations",),
    ("global",),
]


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_fields_of_a_recording_that_have_another_type(recording, field):
    """Refused in a line, or without effect; whole reports are printed for a recording that is read after all."""
    copy = recording.with_name("wrong.sigmf-meta")
    if not copy.with_suffix(".sigmf-data").exists():
        copy.with_suffix(".sigmf-data").hardlink_to(recording.with_suffix(".sigmf-data"))
    refused = 0
    for value in WRONG:
        meta = json.loads(recording.read_text())
        place = meta
        for key in field[:-1]:
            place = place[key]
        place[field[-1]] = value
        copy.write_text(json.dumps(meta))
        result = run(receive.main, "--radio", f"file:{copy}", "--evaluate", "none")
        if result.status:
            refused += 1
            assert_refused(result, 1, copy.name)
    assert refused >= 4


@pytest.mark.parametrize("text", ["[" * 100_000, '{"global":' * 100_000, '{"global": ' + "9" * 5000 + "}"])
def test_metadata_without_end(recording, text):
    path = recording.with_name("deep.sigmf-meta")
    path.write_text(text)
    assert_refused(run(receive.main, "--radio", f"file:{path}"), 1, path.name)


# data sets


def save_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=1))


@pytest.mark.parametrize(
    ("shape", "labels"),
    [((0, 28, 28), []), ((3, 32, 32), [0, 1, 2]), ((3, 28, 28), [0, 1, 10]), ((3, 28, 28), [[0, 1, 2]])],
)
def test_data_sets_that_are_none(tmp_path, recording, shape, labels):
    save_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros(shape))
    save_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array(labels))
    with pytest.raises(InputError, match="again"):
        data.load("fashion-mnist", "test", tmp_path)
    result = run(receive.main, "--radio", f"file:{recording}", "--data", tmp_path)
    assert_refused(result, 1, "Fashion-MNIST")


def test_a_network_is_not_evaluated_on_the_data_of_another(tmp_path, recording):
    records = np.zeros((20, 1 + 3 * 32 * 32), np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    result = run(receive.main, "--radio", f"file:{recording}", "--evaluate", "cifar10", "--data", tmp_path)
    assert result.status == 1 and "(3, 32, 32)" in result.err and "Traceback" not in result.err
    with pytest.raises(InputError, match="does not take"):
        accuracy(build("fashion-bn"), "cifar10", tmp_path)


def test_a_label_without_an_output_is_refused():
    images, task = torch.zeros(2, 1, 28, 28, dtype=torch.uint8), Task("own")
    assert task.top1(build("fashion"), as_examples((images, torch.tensor([0, 9])))) <= 1
    for labels in ([0, 10], [-1, 3]):
        with pytest.raises(InputError, match="labels from"):
            task.top1(build("fashion"), as_examples((images, torch.tensor(labels))))


# start-up


@pytest.mark.parametrize("command", ["tx/send.py", "sim/loopback.py"])
def test_ctrl_c_while_the_libraries_are_imported_is_one_line(command):
    """At several moments of a start; the first some milliseconds are the interpreter's own."""
    for delay_s in (0.25, 0.5, 0.9):
        process = start(command, "--model", "fashion", "--radio" if "send" in command else "--snr-db", "none:")
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        result = finish(process)
        assert "Traceback" not in result.err and result.err.count("\n") <= 1, result
        assert result.status in (-signal.SIGINT, 1, 130), result


@pytest.mark.parametrize("number, error", [(signal.SIGINT, "stopped by Ctrl-C\n"), (signal.SIGTERM, "")])
def test_a_signal_while_torch_is_imported_ends_at_once(number, error, tmp_path):
    """An exception in the middle of its C++ would abort the process."""
    (tmp_path / "torch.py").write_text(f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(9)")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, 'src']; from airnet_sdr.dsp.host.stopping import stoppable\n"
        "with stoppable():\n    import torch"
    )
    result = finish(start("-c", program))
    assert (result.status, result.out) == (128 + number, "") and result.err.endswith(error)
    assert "Traceback" not in result.err


def test_the_line_of_a_start_that_is_stopped():
    program = (
        "import sys; sys.path.insert(0, 'src'); import os, signal, time; "
        "from airnet_sdr.dsp.host import environment; environment.begin(); "
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"
    )
    result = finish(start("-c", program))
    assert (result.status, result.out) == (130, "") and result.err.endswith(": stopped by Ctrl-C\n")


@pytest.mark.parametrize("number, error", [(signal.SIGINT, "send: stopped by Ctrl-C\n"), (signal.SIGTERM, "")])
def test_a_signal_that_a_library_swallows_ends_the_work_without_another_word(number, error):
    """In a callback from C Python can only print what a signal raises, and the library fails later."""
    program = f"""
        import sys; sys.path.insert(0, 'src'); import ctypes, os
        from airnet_sdr.dsp.host.command import CommandParser, run_command
        def work():
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: os.kill(os.getpid(), {int(number)}) or 1)()
            raise RuntimeError("nothing was compiled")
        sys.exit(run_command(CommandParser(prog="send"), work))"""
    result = finish(start("-c", textwrap.dedent(program)))
    assert (result.status, result.out, result.err) == (128 + number, "", error)
