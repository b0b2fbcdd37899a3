"""Sealed bursts over the link: for holders of the key as good as before, for others noise, and no burst twice."""

import dataclasses
import json
import secrets

import numpy as np
import pytest

from airnet_sdr.dsp.frame import frame_samples
from airnet_sdr.models.payload import SCHEMES
from airnet_sdr.models.seal import SealError
from airnet_sdr.rx import receive as receive_command
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.receiver import receive, receive_from
from airnet_sdr.rx.samples import ArraySource
from airnet_sdr.sim import loopback
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tests.command import assert_refused, run, save_untrained
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tx import send
from airnet_sdr.tx.burst import modulate
from airnet_sdr.tx.sender import make_burst


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "link.key"
    path.write_text(secrets.token_hex(32))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("key") / "net.safetensors")


def nmse_db(samples, network, **options):
    return receive(samples, evaluate="none", truth=network, **options).report["weights"]["nmse_db"]


def test_a_key_costs_16_bytes_and_nothing_else(network, key):
    """The same noise on a sealed and on an open burst of equal layout: the same errors of the weights."""
    open_burst, sealed_burst = make_burst(network), make_burst(network, key=key)
    assert len(sealed_burst.manifest_bytes) - len(open_burst.manifest_bytes) == 16
    assert sealed_burst.header.num_frames == open_burst.header.num_frames
    for snr_db in (0, 20):
        plain = nmse_db(transmit(open_burst, snr_db=snr_db, seed=4), network)
        private = nmse_db(transmit(make_burst(network, key=key), snr_db=snr_db, seed=4), network, key=key)
        assert private == pytest.approx(plain, abs=0.05)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_arrives_under_a_key(key, scheme):
    burst = seeds.burst_of(scheme, key=key)
    result = receive(transmit(burst, snr_db=14, seed=1), evaluate="none", architecture=seeds.TINY, key=key)
    assert result.report["seal"] == 1 and not any("noise" in text for text in result.report["warnings"])


def test_without_the_key_a_receiver_rebuilds_noise_and_says_so(network, key, tmp_path):
    samples = transmit(make_burst(network, key=key), snr_db=30, seed=1)
    blind = receive(samples, evaluate="none", truth=network)
    assert blind.report["weights"]["nmse_db"] > 0  # worse than no weights at all
    assert any("noise" in text for text in blind.report["warnings"])
    (tmp_path / "other.key").write_text(secrets.token_hex(32))
    with pytest.raises(SealError, match="another key"):
        receive(samples, evaluate="none", key=tmp_path / "other.key")
    assert nmse_db(samples, network, key=key) < -25


def test_a_holder_of_the_key_takes_no_open_burst(network, key):
    with pytest.raises(SealError, match="not sealed"):
        receive(transmit(make_burst(network), snr_db=30, seed=1), evaluate="none", key=key)


def test_an_injected_payload_is_noise(network, key):
    """Whoever copies header and manifest puts his symbols where he does not know, at phases he does not know."""
    sent = make_burst(network, key=key)
    other = np.random.default_rng(1).permutation(sent.stream)
    forged = dataclasses.replace(sent, stream=other, keystream=None)
    weights = receive(transmit(forged, snr_db=30, seed=1), evaluate="none", key=key).network.state_dict()
    wanted = make_burst(network).stream
    found = np.concatenate([tensor.numpy().ravel() for tensor in weights.values()])[: 2 * wanted.size]
    pairs = found[: found.size // 2 * 2].astype(np.float32).view(np.complex64)
    planted = other[: pairs.size]
    correlation = np.abs(np.vdot(pairs - pairs.mean(), planted)) / np.linalg.norm(pairs) / np.linalg.norm(planted)
    assert correlation < 5 / np.sqrt(pairs.size)


def test_a_recording_is_not_taken_twice(network, key, tmp_path):
    address = f"file:{tmp_path / 'sent.sigmf-meta'}"
    assert run(send.main, "--model", network, "--radio", address, "--key", key).status == 0
    argv = ["--radio", address, "--evaluate", "none", "--key", key, "--report", tmp_path / "r.json"]
    assert run(receive_command.main, *argv).status == 0
    assert json.loads((tmp_path / "r.json").read_text())["seal"] == 1
    (tmp_path / "r.json").unlink()
    assert_refused(run(receive_command.main, *argv), 1, "replay")
    assert "sealed: without its --key these" in run(receive_command.main, *argv[:4]).out
    assert not (tmp_path / "r.json").exists()
    assert run(send.main, "--model", network, "--radio", address, "--key", key).status == 0
    assert run(receive_command.main, *argv).status == 0


def test_an_older_burst_is_not_taken_again_within_a_run(network, key):
    """Bursts 1 and 2, a recording of 1, and 2 once more: its second cycle."""
    bursts = [make_burst(network, key=key) for _ in range(2)]
    samples = [transmit(burst, snr_db=20, seed=seed) for seed, burst in enumerate(bursts)]
    source, refused = ArraySource([samples[i] for i in (0, 1, 0, 1)]), []
    config = ReceiveConfig(evaluate="none", key=key)
    found = [
        (reception.report["seal"], reception.report["frames"]["cycles"])
        for reception in receive_from(source, config, ListenConfig(follow=True), on_refused=refused.append)
    ]
    assert found == [(1, 1), (2, 1), (2, 2)]
    (error,) = refused
    assert isinstance(error, SealError) and "replay" in str(error)


def test_every_cycle_of_one_burst_counts(network, key):
    burst = make_burst(network, key=key)
    samples = transmit(burst, snr_db=0, seed=1, cycles=3)
    result = receive(samples, evaluate="none", key=key, cycles=3)
    assert result.report["frames"]["cycles"] == 3


def test_loopback_takes_one_key_for_both_ends(network, key, tmp_path):
    result = run(loopback.main, "--model", network, "--evaluate", "none", "--key", key, "--report", tmp_path / "r.json")
    assert (result.status, result.err) == (0, "")
    assert json.loads((tmp_path / "r.json").read_text())["seal"] == 1
    missing = tmp_path / "missing.key"
    assert_refused(run(loopback.main, "--model", network, "--key", missing), 1, "missing.key", "secrets")
    assert_refused(run(receive_command.main, "--radio", "file:none.sigmf-meta", "--key", missing), 1, "missing.key")


def test_the_seal_is_in_the_budget_of_channel_uses(network, key):
    uses = 300_000
    burst = make_burst(network, uep="size", channel_uses=uses, key=key)
    assert burst.header.num_frames * frame_samples(burst.header, burst.fmt) <= uses
    assert len(list(modulate(burst))) == burst.header.num_frames
