"""The benchmarks in their quick form: they run, what they write is whole, and their accounts add up."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host import machine
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.sim import bench
from airnet_sdr.sim.benchmarks import flowgraph, loss, peer, speed, start, start_profile, stress
from airnet_sdr.sim.benchmarks.measure import Measure, table, write
from airnet_sdr.sim.benchmarks.processes import peak_bytes
from airnet_sdr.sim.benchmarks.stopwatch import shares, speeds
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.tests.flowgraph import needs_gnuradio
from airnet_sdr.tests.link import make_burst
from airnet_sdr.tests.pluto import needs_libiio
from airnet_sdr.tx.burst import LEAD_SAMPLES, modulate

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """`fashion` with random weights: what a loss is does not depend on them."""
    path = tmp_path_factory.mktemp("model") / "fashion.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    return str(path)


def run(tmp_path, section, *options):
    command = ["--only", section, "--quick", "--workers", "1", "--out", str(tmp_path), *options]
    assert bench.main(command) == 0
    return json.loads((tmp_path / f"{section}.json").read_text())["measures"]


def test_losses_hold_their_bounds(tmp_path, model):
    for section in ("loss", "stress"):
        measures = run(tmp_path, section, "--model", model)
        assert measures and all(m["holds"] for m in measures)


def test_nothing_is_missed_and_nothing_found_in_noise(tmp_path):
    measures = run(tmp_path, "detection")
    assert [m["value"] for m in measures if m["bound"] is not None] == [0, 0, 0, 0]


def test_speed_and_scale_receive_everything(tmp_path):
    first, *_ = run(tmp_path, "speed", "--weights", "100000")
    received, _, sent = first["detail"]["frames"].split()
    assert received == sent and first["value"] > 0
    memory, _, error = run(tmp_path, "scale", "--weights", "100000", "--scale-samples", "1e6")
    assert memory["holds"] and error["holds"]


def test_peak_memory_is_a_processs_own():
    """A process that a larger one has started does not count that one's memory."""
    large = np.ones(1 << 27)  # 1 GiB
    assert peak_bytes() >= large.nbytes
    code = "from airnet_sdr.sim.benchmarks.processes import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < large.nbytes


def test_stages_of_a_start_add_up_and_a_burst_is_whole(tmp_path):
    *_, listening, link, burst = run(tmp_path, "start")
    for measure, stages in ((listening, set()), (link, {"evaluate", "sender", "receiver", "load images"})):
        spent = {name: value for name, value in measure["detail"].items() if name != "wall"}
        assert {"import numpy", "import numba", "import torch", *stages} <= set(spent)
        assert sum(spent.values()) == pytest.approx(measure["value"], abs=start.SHOWN_S * len(start_profile.STAGES))
    assert "evaluate" not in listening["detail"] and listening["value"] < link["value"]
    received, _, sent = burst["detail"]["frames"].split()
    assert received == sent and burst["value"] > 0


def test_a_command_that_fails_is_no_measure():
    with pytest.raises(InputError, match="sparkle"):
        start.profiled(["rx/receive.py", "--sparkle"], "-")
    with pytest.raises(InputError, match="status 1"):
        start.clocks(["rx/receive.py", "--sparkle"])


def test_trainings_are_counted_alone_and_together(tmp_path):
    alone, both, ratio = run(tmp_path, "training")
    assert min(alone["value"], both["value"]) > 0
    assert ratio["value"] == pytest.approx(alone["value"] / both["value"])


def test_time_inside_a_stage_is_not_its_own():
    found = start_profile.StartProfile()
    inner = found.timed("inner", lambda: spin(0.06))
    found.timed("outer", lambda: (spin(0.02), inner()))()
    assert found.spent["outer"] < 0.06 <= found.spent["inner"]


def test_the_table_and_the_file_name_the_processor(tmp_path, monkeypatch):
    info = "processor\t: 0\nmodel name\t: Abacus 3000\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor\t: 1\n"
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    machine.CPU_INFO.write_text(info)
    shown = table([Measure("x", 1.0, "")]).caption
    assert "Abacus 3000" in shown and shown.endswith("avx512f amx_bf16")
    write(tmp_path / "x.json", "bench", [])
    told = json.loads((tmp_path / "x.json").read_text())["machine"]
    assert (told["cpu"], told["cpu_flags"]) == ("Abacus 3000", ["avx512f", "amx_bf16"])
    machine.CPU_INFO.unlink()
    assert machine.machine()["cpu"] and machine.machine()["cpu_flags"] == []


@needs_gnuradio
@pytest.mark.slow
def test_gnu_radio_loses_no_sample(tmp_path):
    speed_, lost, otherwise = run(tmp_path, "flowgraph")
    assert lost["holds"] and otherwise["holds"] and speed_["value"] > 0


def test_a_lost_sample_is_seen():
    sent = speed.white(300_000)
    assert flowgraph.alike(sent * np.exp(1j * (2 + 2 * np.pi * 0.016 * np.arange(sent.size))), sent, 0)
    assert not flowgraph.alike(np.delete(sent, 290_000), sent[:-1], 0)


@needs_libiio
def test_boards_in_real_time_are_counted_on_both_sides(tmp_path):
    """Whether samples are lost is the machine's affair; that none is passed over in the account is not."""
    for measure in run(tmp_path, "realtime"):
        detail = measure["detail"]
        received, expected = map(int, re.findall(r"\d+", detail["frames"]))
        assert detail["samples"] >= 2.5e6 and expected > 50
        assert measure["holds"] == (measure["value"] == 0)
        if measure["holds"]:  # nothing is missing, so every frame is there
            assert abs(received - expected) <= 1


@pytest.mark.parametrize("fft_size", peer.NUM_ACTIVE)
def test_both_receive_every_frame_of_the_comparison(fft_size):
    pytest.importorskip("liquid")
    found = peer.compare(fft_size, 100_000, 1, speed.receive_burst)
    ours, sent, theirs, their_sent = re.findall(r"\d+", found["frames_received"])
    assert ours == sent and theirs == their_sent


def test_overhead_is_the_energy_beside_the_payload():
    _, burst = make_burst((20_000, 3000))
    energy = sum(np.sum(np.abs(x) ** 2, dtype=np.float64) for x in modulate(burst))
    payload = np.sum(np.abs(burst.stream) ** 2, dtype=np.float64) * burst.fmt.fft_size / burst.fmt.num_active
    assert sum(loss.overhead_db(burst).values()) == pytest.approx(db(energy / payload), abs=0.02)  # prefixes: random


def test_a_perfect_receiver_loses_the_overhead_alone():
    _, burst = make_burst((20_000, 3000))
    row = stress.StressRow("ideal", ChannelConfig(snr_db=7))
    assert stress.attainable_db(row, burst, 0.0) == pytest.approx(sum(loss.overhead_db(burst).values()), abs=1e-6)
    erased = stress.attainable_db(row, burst, 1 - lmmse_nmse(1) / (1 - lmmse_nmse(10**0.7)))
    assert erased > stress.attainable_db(row, burst, 0.01) > stress.attainable_db(row, burst, 0.01, 0.1)


def test_response_follows_a_path_that_fades():
    _, burst = make_burst()
    config = ChannelConfig(snr_db=15, doppler_hz=5)
    h = loss.response(config, 3, burst)[:, 0]
    still = Channel(config, loss.RATE_HZ, loss.FREQ_HZ, 3, NOMINAL_POWER).frequency_response(np.zeros(1))
    assert abs(h[0] - still[0]) < 4 * np.pi * 5 * LEAD_SAMPLES / loss.RATE_HZ  # what it moves ahead of the burst
    assert len(h) * burst.fmt.symbol_samples >= burst.num_samples and np.abs(h[-1] - h[0]) > 1e-3


def spin(seconds):
    start = time.thread_time()
    while time.thread_time() < start + seconds:
        pass


def test_stopwatch_tells_stages_apart():
    class Work:
        def outer(self):
            spin(0.02)
            self.inner()

        def inner(self):
            spin(0.06)

    work = Work()
    found = shares(lambda: work.outer(), {"in": [(Work, "inner"), (Work, "gone")], "out": [(Work, "outer")]})  # noqa: PLW0108 looked up when called
    assert 70 < int(found["in"].split()[0]) < 80 and 20 < int(found["out"].split()[0]) < 30
    assert "wrapper" not in Work.inner.__name__ and not hasattr(Work.inner, "__wrapped__")
    assert 0.5e-6 * 100 < speeds({"sleep": (lambda: time.sleep(0.01), 1000)}, 1)["sleep"]["wall"]["median"] <= 0.1


def test_a_bound_is_kept_or_missed_by_the_value_shown():
    assert Measure("x", 1.004, "dB", 1.0).holds and not Measure("x", 1.006, "dB", 1.0).holds
    assert Measure("x", 3.0, "", 2.0, at_most=False).holds and Measure("x", 3.0, "").holds is None
    assert not Measure("x", np.nan, "dB", 1.0).holds and not Measure("x", np.inf, "dB", 1.0).holds
