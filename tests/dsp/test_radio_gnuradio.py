"""`zmq:` addresses against the very blocks of GNU Radio: push/pull, pub/sub and req/rep, both ways round."""

import contextlib

import numpy as np
import pytest

from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.tests.command import wait_for, zmq_addresses
from airnet_sdr.tests.flowgraph import COMPLEX, flowgraph, needs_gnuradio, numbered

pytestmark = needs_gnuradio

RAW = RadioConfig(timeout_s=30.0, backoff_db=None)
TIMEOUT_MS = 200
NUM = 300_000
NUM_REPEATED = 1000


def samples_in(path):
    """What GNU Radio has written so far, whole samples."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // COMPLEX * COMPLEX], np.complex64)


def into_file(block, address, path):
    """A source of GNU Radio's into a file that is written at once."""
    source = ["zeromq", block, COMPLEX, 1, address.removeprefix("zmq:"), TIMEOUT_MS]
    return flowgraph(source, ["blocks", "file_sink", COMPLEX, str(path)])


def out_of_file(path, block, address, *more, repeat=False, rate=None):
    source = ["blocks", "file_source", COMPLEX, str(path), repeat]
    throttle = [] if rate is None else [["blocks", "throttle", COMPLEX, rate]]
    return flowgraph(source, *throttle, ["zeromq", block, COMPLEX, 1, address.removeprefix("zmq:"), TIMEOUT_MS, *more])


@pytest.mark.parametrize("pattern, block", [("push", "pull_source"), ("rep", "req_source")])
@pytest.mark.parametrize("gnuradio_first", [True, False])
def test_what_we_send_arrives_in_gnu_radio_whole_whoever_starts_first(pattern, block, gnuradio_first, tmp_path):
    (address,) = zmq_addresses(1)
    path = tmp_path / "received"
    blocks = np.array_split(numbered(0, NUM), [1, 8, 20_000])  # GNU Radio asks for less than some of them hold

    with contextlib.ExitStack() as stack:
        if gnuradio_first:
            stack.enter_context(into_file(block, address, path))
        sink = stack.enter_context(open_sink(f"{address}?pattern={pattern}&bind=1", RAW))
        if not gnuradio_first:
            stack.enter_context(into_file(block, address, path))
        for samples in blocks:
            sink.send(samples)
        wait_for(lambda: samples_in(path).size == NUM, 30)
    np.testing.assert_array_equal(samples_in(path), numbered(0, NUM))


def test_what_we_publish_arrives_once_gnu_radio_has_subscribed(tmp_path):
    (address,) = zmq_addresses(1)
    path = tmp_path / "received"
    with open_sink(f"{address}?pattern=pub&bind=1", RAW) as sink, into_file("sub_source", address, path):
        wait_for(lambda: [sink.send(np.full(10, -1, np.complex64)), samples_in(path).size][1], 30)
        for samples in np.split(numbered(0, 5000), 5):
            sink.send(samples)
        wait_for(lambda: samples_in(path)[-1] == 4999, 30)
    heard = samples_in(path)
    np.testing.assert_array_equal(heard[heard != -1], numbered(0, 5000))


@pytest.mark.parametrize("pattern, block", [("pull", "push_sink"), ("req", "rep_sink")])
def test_what_gnu_radio_sends_arrives_here_whole(pattern, block, tmp_path):
    (address,) = zmq_addresses(1)
    numbered(0, NUM).tofile(tmp_path / "sent")
    received = np.zeros(0, np.complex64)
    with out_of_file(tmp_path / "sent", block, address), open_source(f"{address}?pattern={pattern}", RAW) as source:
        while received.size < NUM:
            received = np.concatenate([received, source.read()])
    np.testing.assert_array_equal(received, numbered(0, NUM))


@pytest.mark.parametrize("key", ["", "air"])
def test_what_gnu_radio_publishes_arrives_here_in_whole_messages(key, tmp_path):
    (address,) = zmq_addresses(1)
    numbered(0, NUM_REPEATED).tofile(tmp_path / "sent")
    publisher = out_of_file(
        tmp_path / "sent", "pub_sink", address, False, -1, key, repeat=True, rate=200e3
    )  # what a slow subscriber misses is lost, but no part of a message
    with publisher, open_source(f"{address}?pattern=sub", RAW) as source:
        blocks = [source.read() for _ in range(10)]
    assert sum(block.size for block in blocks) > NUM_REPEATED
    for block in blocks:
        expected = numbered(block[0].real, block.size).real % NUM_REPEATED
        np.testing.assert_array_equal(block, expected.astype(np.complex64))
