"""What the commands make of bad input and of being stopped: one clear line, the exit status, nothing half-written."""

import contextlib
import dataclasses
import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from airnet_sdr.dsp import radio
from airnet_sdr.dsp.frame import VERSION, layout_burst
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.radio import open_sink
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import sensitivity, shipped, train
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx import receive
from airnet_sdr.sim import air, demo, gnuradio_air, loopback
from airnet_sdr.sim.experiments import methods
from airnet_sdr.tests.command import (
    ROOT,
    assert_refused,
    finish,
    killed,
    run,
    save_few_images,
    start,
    wait_for,
    zmq_addresses,
)
from airnet_sdr.tx import burst as framing
from airnet_sdr.tx import send

STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in which nothing may be left half-written."""
    yield tmp_path
    assert not list(tmp_path.glob("**/*.part"))


def changed(recording, folder, change_data=None, **fields):
    """The address of a copy with other bytes or other global fields."""
    meta, data = json.loads(recording.read_text()), recording.with_suffix(".sigmf-data").read_bytes()
    meta["global"].update(fields)
    (folder / "changed.sigmf-meta").write_text(json.dumps(meta))
    (folder / "changed.sigmf-data").write_bytes(data if change_data is None else change_data(data))
    return f"file:{folder / 'changed.sigmf-meta'}"


def hear(address, folder, *options):
    """Receive without evaluation; on failure there is no report, picture or model."""
    files = [folder / name for name in ("report.json", "report.png", "heard.safetensors")]
    where = ["--report", files[0], "--picture", files[1], "--save", files[2]]
    result = run(receive.main, "--radio", address, "--evaluate", "none", *where, *options)
    assert [file.exists() for file in files] == [result.status == 0] * 3
    return result


def transmit(burst, folder):
    """The address of a recording of any burst."""
    address = f"file:{folder / 'burst.sigmf-meta'}"
    with open_sink(address) as sink:
        for samples, label in framing.transmission(burst):
            sink.send(samples, label)
    return address


def burst_of(model, arch="fashion", dataset="fashion-mnist", change=lambda tensor: tensor):
    """A burst whose manifest says what it likes."""
    checkpoint = checkpoints.load(model)
    plan = AnalogPlan(checkpoint, protect(checkpoint, PlanConfig("none")))
    burst = framing.lay_out(ModelCard(arch, dataset, 0.9), [AnalogPayload.encode(plan)])
    tensors = tuple(change(tensor) for tensor in burst.manifest.parts[0].tensors)
    return dataclasses.replace(burst, manifest=dataclasses.replace(burst.manifest, parts=(AnalogPayload(tensors),)))


# the sender's input


def broken_checkpoint(model, path, change, **metadata):
    tensors = load_file(model)
    change(tensors)
    fields = {"arch": "fashion", "dataset": "fashion-mnist", "accuracy": "0.1", **metadata}
    save_file(tensors, path, fields)


def poison(tensors):
    tensors["dense.weight"][3, 5] = np.nan


def flatten(tensors):
    tensors["dense.weight"] = tensors["dense.weight"].reshape(-1)


def round_off(tensors):
    tensors["dense.weight"] = tensors["dense.weight"].astype(np.int8)


@pytest.mark.parametrize(
    "change, metadata, word",
    [
        (poison, {}, "not finite"),
        (flatten, {}, "dense.weight"),
        (round_off, {}, "int8"),
        (lambda tensors: tensors.pop("conv1.weight"), {}, "conv1.weight"),
        (lambda tensors: None, {"arch": "os.system"}, "os.system"),
        (lambda tensors: None, {"accuracy": "very good"}, "accuracy"),
        (lambda tensors: None, {"dataset": "../secret"}, "secret"),
    ],
)
def test_a_checkpoint_that_is_not_one_of_ours(model, folder, change, metadata, word):
    broken_checkpoint(model, folder / "bad.safetensors", change, **metadata)
    for argv in (["--radio", f"file:{folder / 'out.sigmf-meta'}"], ["--radio", "zmq:tcp://127.0.0.1:9"]):
        assert_refused(run(send.main, "--model", folder / "bad.safetensors", *argv), 1, word)
    assert_refused(run(loopback.main, "--model", folder / "bad.safetensors", "--report", folder / "r.json"), 1, word)
    assert [path.name for path in folder.iterdir()] == ["bad.safetensors"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle, perhaps", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}" * 9])
def test_a_file_that_is_not_safetensors(folder, content):
    (folder / "bad.safetensors").write_bytes(content)
    argv = ["--model", folder / "bad.safetensors", "--radio", f"file:{folder / 'out.sigmf-meta'}"]
    assert_refused(run(send.main, *argv), 1, "safetensors")
    assert len(list(folder.iterdir())) == 1


def test_no_such_model_tells_which_there_are(folder):
    radio = ["--radio", f"file:{folder / 'out.sigmf-meta'}"]
    assert_refused(run(send.main, "--model", "nosuch", *radio), 1, "nosuch", "fashion")
    assert_refused(run(send.main, *radio), 1, "--model", "fashion")
    assert_refused(run(loopback.main, "--model", folder), 1, str(folder), "fashion")
    assert_refused(run(receive.main, *radio, "--truth", "nosuch"), 1, "nosuch", "fashion")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "options, word",
    [
        (["--copies", "0"], "--copies"),
        (["--copies", "256"], "--copies"),
        (["--cycles", "-1"], "--cycles"),
        (["--payload-uses", "1000"], "--payload-uses"),
        (["--channel-uses", "1000"], "--channel-uses"),
        (["--snr-db", "nan"], "--snr-db"),
        (["--uep", "auto"], "sensitivity"),  # a model of which none was measured
        (["--rate-hz", "0"], "rate"),
        (["--freq-hz", "inf"], "freq"),
    ],
)
def test_options_of_the_sender_that_make_no_sense(model, folder, options, word):
    argv = ["--model", model, "--radio", f"file:{folder / 'out.sigmf-meta'}", *options]
    assert_refused(run(send.main, *argv), 1, word)
    assert not list(folder.iterdir())


# addresses and options of every command

MAINS = [
    send.main,
    receive.main,
    air.main,
    gnuradio_air.main,
    loopback.main,
    demo.main,
    train.main,
    sensitivity.main,
    methods.main,
]
ADDRESSES = [
    "",
    "nonsense",
    "usrp:0",
    "zmq:",
    "zmq:tcp://127.0.0.1",
    "zmq:tcp://127.0.0.1:0",
    "zmq:tcp://127.0.0.1:70000",
    "zmq:tcp://127.0.0.1:5555?bind=yes",
    "zmq:tcp://127.0.0.1:5555?pattern=carrier-pigeon",
    "file:capture.wav",
    "file:.sigmf-meta",
    "pluto:192.168.2.1",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_make_no_sense(model, address):
    for main, *argv in [
        (send.main, "--model", model, "--radio", address),
        (receive.main, "--radio", address),
        (air.main, "--rx", address, "--tx", "zmq:tcp://127.0.0.1:5555"),
        (air.main, "--rx", "zmq:tcp://127.0.0.1:5555", "--tx", address),
        (gnuradio_air.main, "--rx", "zmq:tcp://127.0.0.1:5555", "--tx", address),
    ]:
        assert_refused(run(main, *argv), 1, repr(address))


def test_a_pattern_for_the_other_direction(model):
    assert_refused(run(send.main, "--model", model, "--radio", "zmq:tcp://127.0.0.1:9?pattern=pull"), 1, "push")
    assert_refused(run(receive.main, "--radio", "zmq:tcp://127.0.0.1:9?pattern=push"), 1, "pull")


def test_places_that_do_not_exist(model, folder):
    nowhere = f"file:{folder / 'no' / 'folder.sigmf-meta'}"
    assert_refused(run(receive.main, "--radio", nowhere), 1, "no/folder.sigmf-meta")
    (folder / "file").write_text("in the way")
    in_the_way = f"file:{folder / 'file' / 'out.sigmf-meta'}"
    assert_refused(run(send.main, "--model", model, "--radio", in_the_way), 1, "out.sigmf-meta")


def test_nobody_at_the_other_end_is_a_radio_error(model, folder):
    (one,) = zmq_addresses(1)
    assert_refused(run(send.main, "--model", model, "--radio", one, "--timeout-s", "0.2"), 3, one)
    assert_refused(hear(one, folder, "--timeout-s", "0.2"), 3, one)
    assert_refused(hear("zmq:tcp://192.0.2.1:5555?bind=1", folder), 3, "bind")  # an address of no machine


@pytest.mark.parametrize("main", [send.main, receive.main])
def test_without_radio_the_addresses_are_printed(main):
    result = run(main)
    assert_refused(result, 1, "--radio")
    assert all(kind in result.out for kind in ("pluto:ip:", "zmq:tcp:", "file:"))


@pytest.mark.parametrize("main", MAINS)
@pytest.mark.parametrize("argv", [["--no-such-option"], ["--seed", "one"], ["--rad", "file:a.sigmf-meta"], ["extra"]])
def test_unknown_options_are_one_line(main, argv):
    assert_refused(run(main, *argv), 1)


@pytest.mark.parametrize("main", MAINS)
def test_help(main):
    result = run(main, "--help")
    assert (result.status, result.err) == (0, "") and "usage:" in result.out


def test_the_list_names_every_shipped_model():
    result = run(send.main, "--list")
    assert (result.status, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == sorted(shipped.paths())


# recordings


def test_a_whole_recording_leaves_report_picture_and_model(model, recording, folder):
    result = hear(f"file:{recording}", folder, "--truth", model)
    assert (result.status, result.err) == (0, "")
    report = json.loads((folder / "report.json").read_text())
    assert report["frames"]["lost"] == 0 and report["accuracy"] is None and report["warnings"] == []
    heard, sent = checkpoints.load(folder / "heard.safetensors"), checkpoints.load(model)
    for name in sent.tensors:
        np.testing.assert_allclose(heard.tensors[name], sent.tensors[name], atol=0.05 * sent.tensors[name].std())


def test_a_recording_cut_inside_a_sample(recording, folder):
    assert_refused(hear(changed(recording, folder, lambda data: data[:-3]), folder), 1, "truncated")


def test_a_recording_cut_inside_a_frame_is_reported_with_the_frames_that_are_missing(recording, folder):
    starts = [annotation["core:sample_start"] for annotation in json.loads(recording.read_text())["annotations"]]
    stop = starts[-3] + 3000  # two frames are missing, a third almost
    result = hear(changed(recording, folder, lambda data: data[: 8 * stop]), folder)
    assert (result.status, result.err) == (0, "")
    report = json.loads((folder / "report.json").read_text())
    assert report["frames"]["expected"] == len(starts)
    assert report["frames"]["lost"] in (2, 3)
    assert any("never received" in text for text in report["warnings"])
    assert any("ends early" in text for text in report["warnings"])


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.1, np.nan])
def test_silence_and_noise_hold_nothing(recording, folder, rng, level):
    def noise(data):
        return (level * rng.standard_normal(len(data) // 4)).astype("<f4").tobytes()

    assert_refused(hear(changed(recording, folder, noise), folder), 2, "no frame")


@pytest.mark.parametrize("datatype", ["cf64_le", "ri16_le", "ru8", 7, None])
def test_other_datatypes(recording, folder, datatype):
    address = changed(recording, folder, **{"core:datatype": datatype})
    assert_refused(hear(address, folder), 1, repr(datatype), "cf32_le")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"global": 1}', '{"global": {}, "captures": 3}', "\x00\xff"])
def test_metadata_that_is_none(recording, folder, text):
    (folder / "bad.sigmf-meta").write_text(text, encoding="latin-1")
    (folder / "bad.sigmf-data").write_bytes(recording.with_suffix(".sigmf-data").read_bytes()[:80])
    assert_refused(hear(f"file:{folder / 'bad.sigmf-meta'}", folder), 1, "bad.sigmf-meta")


def test_metadata_without_its_data(recording, folder):
    (folder / "alone.sigmf-meta").write_text(recording.read_text())
    assert_refused(hear(f"file:{folder / 'alone.sigmf-meta'}", folder), 1, "alone.sigmf-data")


def test_another_format_version_is_said_so(model, folder, monkeypatch):
    newer = VERSION + 1

    def next_version(*layout):
        return dataclasses.replace(layout_burst(*layout), version=newer)

    monkeypatch.setattr(framing, "layout_burst", next_version)
    address = f"file:{folder / 'newer.sigmf-meta'}"
    assert run(send.main, "--model", model, "--radio", address).status == 0
    assert_refused(hear(address, folder), 2, f"version {newer}", f"{VERSION}")


# what may come off the air with a right CRC


@pytest.mark.parametrize("arch", ["os.system", "no-such-net", "fashion2"])
def test_an_unknown_architecture_is_refused_by_name(model, folder, arch):
    assert_refused(hear(transmit(burst_of(model, arch=arch), folder), folder), 1, arch)


def test_an_unknown_data_set_is_refused_unless_nothing_is_evaluated(model, folder):
    address = transmit(burst_of(model, dataset="etc.passwd"), folder)
    assert_refused(run(receive.main, "--radio", address, "--report", folder / "r.json"), 1, "etc.passwd")
    report = json.loads((folder / "r.json").read_text())
    assert report["accuracy"] is None and "etc.passwd" in " ".join(report["warnings"])
    assert hear(address, folder).status == 0


@pytest.mark.parametrize("copies", [2, 255])
def test_copies_that_do_not_fit_the_frames(model, folder, copies):
    burst = burst_of(model, change=lambda tensor: dataclasses.replace(tensor, copies=copies))
    assert_refused(hear(transmit(burst, folder), folder), 1, "payload symbols")


def test_tensors_that_the_architecture_has_not(model, folder):
    burst = burst_of(model)
    tensors = burst.manifest.parts[0].tensors[:-1]
    burst = dataclasses.replace(burst, manifest=dataclasses.replace(burst.manifest, parts=(AnalogPayload(tensors),)))
    assert_refused(hear(transmit(burst, folder), folder), 1, f"{len(tensors)} tensors")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fields", [{"scale": 1e38}, {"mean": 3e38}, {"scale": 0.0}, {"power_db": -32.0}])
def test_absurd_scales_are_no_crash(model, folder, fields):
    burst = burst_of(model, change=lambda tensor: dataclasses.replace(tensor, **fields))
    result = hear(transmit(burst, folder), folder, "--truth", model)
    assert result.status == 0 and result.err == ""


# what the receiver is asked to write and to compare with


def test_places_where_no_report_can_be_written(recording, folder):
    (folder / "file").write_text("in the way")
    address = ["--radio", f"file:{recording}", "--evaluate", "none"]
    for option, path in [("--report", folder / "file" / "r.json"), ("--picture", folder), ("--save", folder)]:
        assert_refused(run(receive.main, *address, option, path), 1, "cannot be written", str(path))
    assert [path.name for path in folder.iterdir()] == ["file"] and (folder / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    "options, word",
    [
        (["--evaluate", "mnist-of-1998"], "mnist-of-1998"),
        (["--max-cfo-hz", "-1"], "--max-cfo-hz"),
        (["--max-cfo-hz", "nan"], "--max-cfo-hz"),
        (["--timeout-s", "0"], "timeout"),
        (["--rate-hz", "-1"], "rate"),
    ],
)
def test_options_of_the_receiver_that_make_no_sense(recording, folder, options, word):
    argv = ["--radio", f"file:{recording}", "--report", folder / "r.json", *options]
    assert_refused(run(receive.main, *argv), 1, word)
    assert not list(folder.iterdir())


# being stopped


def test_ctrl_c_while_a_file_is_written_leaves_nothing(folder, monkeypatch):
    def interrupted(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(folder / "report.json", b"{}")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("signum", STOPPED)
@pytest.mark.parametrize("module, end", [(send, "open_sink"), (receive, "open_source")])
def test_a_stop_that_a_library_swallows_is_heard_with_the_next_samples(module, end, recording, monkeypatch, signum):
    """The exception is lost, as one that strikes a destructor is."""
    opens = getattr(radio, end)

    def swallowing(*args):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            signal.raise_signal(signum)
        return opens(*args)

    monkeypatch.setattr(radio, end, swallowing)
    address = f"file:{recording if module is receive else recording.with_name('stopped.sigmf-meta')}"
    options = [
        "--truth" if module is receive else "--model",
        recording.with_name("net.safetensors"),
        "--radio",
        address,
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the background is deaf to it
    try:
        assert run(module.main, *options).status == STOPPED[signum]
    finally:
        signal.signal(signal.SIGINT, before)
    assert not recording.with_name("stopped.sigmf-meta").exists()


def listening(address):
    """Whether somebody is bound to a zmq:tcp address."""
    host, port = address.removeprefix("zmq:tcp://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def end(process, signum):
    """What a process makes of a signal, promptly."""
    process.send_signal(signum)
    told = time.monotonic()
    result = finish(process)
    assert time.monotonic() - told < 20  # seconds on a busy machine, but far from the minute of any timeout
    assert "Traceback" not in result.err
    return result


def long_commands(model, folder):
    """Commands that would go on for minutes at least, each ready once it has printed a line."""
    (nobody,), recording = zmq_addresses(1), f"file:{folder / 's.sigmf-meta'}"
    return {
        "send to nobody": ["tx/send.py", "--model", model, "--radio", nobody],
        "send to a file": ["tx/send.py", "--model", model, "--radio", recording, "--cycles", 10**6],
        "loopback": ["sim/loopback.py", "--model", model, "--cycles", 10**6, "--report", folder / "r.json"],
    }


@pytest.mark.parametrize("signum", STOPPED)
@pytest.mark.parametrize("name", ["send to nobody", "send to a file", "loopback"])
def test_stopped_at_work(model, folder, name, signum):
    process = start(*long_commands(model, folder)[name])
    with killed(process):
        assert "payload symbols" in process.stdout.readline()
        time.sleep(1)  # numba, loading what it has compiled, swallows a signal's exception
        result = end(process, signum)
    assert result.status == STOPPED[signum]
    assert result.err.count("\n") == (signum == signal.SIGINT)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("signum", STOPPED)
def test_training_stopped_between_whole_epochs(folder, signum):
    data = save_few_images(folder / "few", 200)
    process = start("models/train.py", "--out", folder / "net", "--epochs", 10**4, data=data)
    with killed(process):
        wait_for((folder / "net" / "state.safetensors").exists)
        result = end(process, signum)
    assert result.status == STOPPED[signum]
    assert result.err.count("\n") == (signum == signal.SIGINT)
    assert sorted(path.name for path in (folder / "net").iterdir()) == ["command.txt", "state.safetensors", "train.log"]


@pytest.mark.parametrize("signum", STOPPED)
def test_receive_stopped_while_it_waits(folder, signum):
    (address,) = zmq_addresses(1)
    process = start("rx/receive.py", "--radio", f"{address}?bind=1", "--report", folder / "r.json", "--follow")
    with killed(process):
        wait_for(lambda: listening(address))
        result = end(process, signum)
    assert (result.status, result.out) == (STOPPED[signum], "")
    assert result.err.count("\n") == (signum == signal.SIGINT)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("signum", STOPPED)
def test_the_air_ends_well_when_it_is_stopped(folder, signum):
    one, two = zmq_addresses(2)
    process = start("sim/air.py", "--rx", f"{one}?bind=1", "--tx", f"{two}?bind=1")
    with killed(process):
        wait_for(lambda: listening(one) and listening(two))
        result = end(process, signum)
    assert (result.status, result.err) == (0, "")
    assert "0 samples in, 0 out" in result.out


@pytest.mark.parametrize("signum", STOPPED)
def test_the_demo_takes_its_processes_with_it(model, folder, signum):
    process = start("sim/demo.py", "--model", model, "--out", folder / "demo")
    with killed(process):
        while "[sender]" not in process.stdout.readline():  # which starts last
            assert process.poll() is None
        result = end(process, signum)  # which waits until all have let go of the pipes
    assert result.status == STOPPED[signum]
    assert result.err == ("demo: stopped by Ctrl-C\n" if signum == signal.SIGINT else "")
    assert not (folder / "demo").exists()


def test_exit_status_reaches_the_shell(folder):
    result = finish(start(ROOT / "rx" / "receive.py", "--radio", "file:none.sigmf-meta", cwd=folder))
    assert_refused(result, 1, "none.sigmf-meta")
