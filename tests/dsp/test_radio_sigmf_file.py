import hashlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source, sigmf_file
from airnet_sdr.dsp.radio.scale import to_full_scale
from airnet_sdr.tests.command import environment


def unit_power(num, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num, 2)) @ [1, 1j] / np.sqrt(2)).astype(np.complex64)


def write_raw(path, data, **global_info):
    """A recording as another program would leave it."""
    meta = {
        "global": {"core:datatype": "cf32_le", "core:version": "1.0.0", "core:sample_rate": 1e6, **global_info},
        "captures": [{"core:sample_start": 0, "core:frequency": 915e6}],
        "annotations": [],
    }
    path.write_text(json.dumps(meta))
    path.with_suffix(".sigmf-data").write_bytes(data)
    return f"file:{path}"


def read_all(address, config=RadioConfig()):
    with open_source(address, config) as source:
        return np.concatenate(list(source)), source


@pytest.fixture
def path(tmp_path):
    return tmp_path / "capture.sigmf-meta"


def test_round_trip_is_exact_and_takes_rate_and_carrier_from_the_recording(path):
    sent = [unit_power(1000, 1), np.zeros(10, np.complex64), unit_power(500, 2)]
    with open_sink(f"file:{path}", RadioConfig(freq_hz=915e6, rate_hz=1e6)) as sink:
        for samples, label in zip(sent, ["cycle 0", None, "cycle 1"], strict=True):
            sink.send(samples, label)
    assert sink.describe() == {
        "address": f"file:{path}",
        "rate_hz": 1e6,
        "freq_hz": 915e6,
        "gain_db": None,
        "clipped": 0,
        "samples": 1510,
        "warnings": [],
    }
    received, source = read_all(f"file:{path}")
    np.testing.assert_array_equal(received, to_full_scale(np.concatenate(sent))[0])
    assert (source.rate_hz, source.freq_hz, source.samples, source.warnings) == (1e6, 915e6, 1510, [])


def test_the_recording_is_valid_sigmf_with_an_annotation_for_every_labelled_send(path):
    import sigmf

    with open_sink(f"file:{path}") as sink:
        sink.send(np.zeros(7, np.complex64))
        sink.send(unit_power(100), "cycle 0")
    recording = sigmf.fromfile(str(path))
    recording.validate()
    data = path.with_suffix(".sigmf-data").read_bytes()
    assert recording.get_global_field("core:sha512") == hashlib.sha512(data).hexdigest()
    for name in ("sample_rate", "hw", "recorder", "author", "description"):
        assert recording.get_global_field(f"core:{name}")
    assert recording.get_captures()[0]["core:frequency"] == 2.4e9 and recording.get_captures()[0]["core:datetime"]
    (annotation,) = recording.get_annotations()
    assert annotation == {"core:sample_start": 7, "core:sample_count": 100, "core:label": "cycle 0"}
    assert sorted(file.name for file in path.parent.iterdir()) == ["capture.sigmf-data", "capture.sigmf-meta"]


def test_an_exception_leaves_nothing_half_written_and_an_older_recording_untouched(path):
    with open_sink(f"file:{path}") as sink:
        sink.send(unit_power(10))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(KeyError), open_sink(f"file:{path}") as sink:
        sink.send(unit_power(20))
        raise KeyError
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_ci16_is_read_at_full_scale_one(path):
    components = np.array([32767, -32768, 0, 16384], "<i2")
    received, _ = read_all(write_raw(path, components.tobytes(), **{"core:datatype": "ci16_le"}))
    np.testing.assert_allclose(received, [32767 / 32768 - 1j, 0.5j])
    assert received.dtype == np.complex64


def test_blocks_are_bounded_and_join_up(path, monkeypatch):
    monkeypatch.setattr(sigmf_file, "BLOCK_SAMPLES", 64)
    samples = unit_power(200)
    address = write_raw(path, samples.tobytes())
    with open_source(address) as source:
        blocks = list(source)
    assert [block.size for block in blocks] == [64, 64, 64, 8]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)


def test_missing_rate_and_carrier_come_from_the_configuration_with_a_warning(path):
    address = write_raw(path, bytes(80))
    path.write_text(json.dumps({"global": {"core:datatype": "cf32_le"}}))
    _, source = read_all(address, RadioConfig(freq_hz=433e6, rate_hz=2e6))
    assert (source.rate_hz, source.freq_hz) == (2e6, 433e6) and len(source.describe()["warnings"]) == 2


def test_a_rate_or_carrier_beside_the_recordings_own_is_said_to_have_no_effect(path):
    address = write_raw(path, bytes(80))
    _, source = read_all(address, RadioConfig(freq_hz=915e6, rate_hz=2e6))
    assert source.warnings == [f"recording {path} has core:sample_rate 1e+06; 2e+06 has no effect"]
    assert (source.rate_hz, source.freq_hz) == (1e6, 915e6)


def test_a_recording_cut_between_samples_is_read_with_a_warning(path):
    with open_sink(f"file:{path}") as sink:
        sink.send(unit_power(100), "cycle 0")
    data = path.with_suffix(".sigmf-data")
    data.write_bytes(data.read_bytes()[: 8 * 60])
    received, source = read_all(f"file:{path}")
    assert received.size == 60 and "ends early" in source.warnings[0]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda meta, data: meta.unlink(), "No such file"),
        (lambda meta, data: meta.write_text("{"), "is not SigMF metadata"),
        (lambda meta, data: meta.write_bytes(b"\xff\xfe"), "is not SigMF metadata"),
        (lambda meta, data: meta.write_text("[]"), "is not SigMF metadata"),
        (lambda meta, data: meta.write_text('{"global": {}}'), "is not SigMF metadata"),
        (lambda meta, data: meta.write_text(meta.read_text().replace("cf32_le", "cf64_le")), "datatype 'cf64_le'"),
        (
            lambda meta, data: meta.write_text(meta.read_text().replace("1000000.0", '"fast"')),
            "core:sample_rate 'fast'",
        ),
        (lambda meta, data: meta.write_text(meta.read_text().replace("1000000.0", "-1")), "core:sample_rate -1"),
        (lambda meta, data: data.unlink(), "cannot read the recording's data"),
        (lambda meta, data: data.write_bytes(b""), "empty"),
        (lambda meta, data: data.write_bytes(bytes(83)), "truncated: 83 bytes"),
    ],
)
def test_bad_recordings_give_one_clear_line(path, spoil, message):
    address = write_raw(path, bytes(80))
    spoil(path, path.with_suffix(".sigmf-data"))
    with pytest.raises(InputError, match=message) as caught:
        open_source(address).__enter__()
    assert "\n" not in str(caught.value)


def test_an_unwritable_place_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write recording"):
        open_sink(f"file:{tmp_path}/file/capture.sigmf-meta").__enter__()


KILLED = """
import os, signal, sys
import numpy as np
from airnet_sdr.dsp.radio import open_sink
with open_sink(f"file:{sys.argv[1]}") as sink:
    sink.send(np.ones(1000, np.complex64))
    sink._data.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_program_recorded_is_named_at_the_next_start_and_kept(path):
    """Also beside a recording of another name; the samples are there, and a new recording takes their name's place."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment())
    assert done.returncode == -signal.SIGKILL
    for name, expected in (("other", "capture.sigmf-data.part"), ("capture", "capture.sigmf-data.1.part")):
        with open_sink(f"file:{path.with_name(name + '.sigmf-meta')}") as sink:
            sink.send(unit_power(10))
            (line,) = sink.describe()["warnings"]
        assert expected in line and "1000 samples" in line and "\n" not in line
        assert path.with_name(expected).stat().st_size == 8000
    assert np.abs(read_all(f"file:{path}")[0]).size == 10


def test_a_recording_that_is_being_written_is_left_alone(path):
    with open_sink(f"file:{path}") as first:
        first.send(unit_power(100))
        with pytest.raises(InputError, match="another program is writing"):
            open_sink(f"file:{path}").__enter__()
        with open_sink(f"file:{path.with_name('other.sigmf-meta')}") as second:
            assert second.describe()["warnings"] == []
    assert read_all(f"file:{path}")[0].size == 100


def test_a_receivers_own_recording_does_not_end_early(path):
    """The last frame is annotated as long as it is, though reception ended before it did; one was all beyond."""
    with open_sink(f"file:{path}") as sink:
        sink.send(unit_power(1000))
        for start in (100, 700, 1000, 1200):
            sink.annotate(start, 500, "frame")
    annotations = json.loads(path.read_text())["annotations"]
    assert [(a["core:sample_start"], a["core:sample_count"]) for a in annotations] == [(100, 500), (700, 300)]
    assert read_all(f"file:{path}")[1].warnings == []
