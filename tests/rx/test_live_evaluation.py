"""Evaluation beside reception: no manifest, data set or file ends it, and what waits is bounded."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError, LinkError, NothingReceivedError, RadioError
from airnet_sdr.models.data import LOADERS
from airnet_sdr.rx import live_evaluation
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ReceiveConfig
from airnet_sdr.rx.listen import Listener
from airnet_sdr.rx.live import _publish
from airnet_sdr.rx.live_evaluation import MAX_WAITING, Evaluator, Result, pictures_of
from airnet_sdr.rx.live_message import Message, pack
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.link import on_air, transmit
from airnet_sdr.tests.link import receive as frames_of
from airnet_sdr.tx.burst import lay_out

RADIO = {"address": "here", "rate_hz": 1e6}


def heard(dataset="none", missing=0):
    """The combined frames of the tiny network under a data set's name, but the last ``missing``."""
    burst = seeds.burst_of("analog", uep="none")
    symbols = np.split(burst.stream, np.cumsum(burst.part_symbols)[:-1])
    card = dataclasses.replace(burst.manifest.card, dataset=dataset)
    burst = lay_out(card, list(zip(burst.manifest.parts, symbols, strict=True)), checksum=burst.manifest.checksum)
    combiner = BurstCombiner(burst.header.burst_key)
    combiner.add(*frames_of(on_air(transmit(burst), 15))[: burst.header.num_frames - missing])
    return combiner


def evaluator_of(*bursts, describe=lambda: RADIO):
    evaluator = Evaluator(Listener(), ReceiveConfig(), 50, describe)
    for burst in bursts:
        evaluator.submit(burst)
    evaluator.finish()
    return evaluator


def unavailable(split, data_dir):
    raise InputError("not on this disk")


def broken(split, data_dir):
    raise ZeroDivisionError("a mistake")


@pytest.mark.parametrize(
    "load_data, says",
    [
        (None, "RuntimeError"),  # Fashion-MNIST, whose pictures the network does not take
        (unavailable, "not on this disk"),
        (broken, "a mistake"),
        (lambda split, data_dir: 7, "load_data must return"),
        (lambda split, data_dir: torch.zeros(3, 6), "labels"),
    ],
)
def test_what_cannot_be_evaluated_is_said_and_kept_and_the_next_burst_is_evaluated(monkeypatch, load_data, says):
    name = "fashion-mnist"
    if load_data is not None:
        name = "odd"
        monkeypatch.setitem(LOADERS, name, load_data)
    (result,) = evaluator_of(heard(name))
    assert says in result.values["error"] and "\n" not in result.values["error"]
    assert result.reception.failure is not None and result.values["accuracy"] is None and not result.arrays
    assert any(says in text for text in result.values["report"]["warnings"])
    (good,) = evaluator_of(heard())
    assert "error" not in good.values and good.reception.failure is None


def test_data_that_are_no_pairs_are_evaluated_as_without_a_page(monkeypatch):
    batches = [{"input": torch.randn(6), "labels": torch.tensor(i % 3)} for i in range(30)]
    monkeypatch.setitem(LOADERS, "odd", lambda split, data_dir: batches)
    (result,) = evaluator_of(heard("odd"))
    assert "error" not in result.values and 0 <= result.values["accuracy"] <= 1 and "images" not in result.values


def test_pairs_are_judged_on_the_first_of_them(monkeypatch):
    pairs = torch.randn(80, 6), torch.arange(80) % 3
    monkeypatch.setitem(LOADERS, "odd", lambda split, data_dir: pairs)
    (result,) = evaluator_of(heard("odd"))
    assert result.values["images"] == 50 and 0 <= result.values["accuracy"] <= 1 and not result.arrays


def test_pictures_fit_a_message():
    for size, num in ((28, 12), (200, 1), (300, 0)):
        inputs = torch.zeros(20, 3, size, size, dtype=torch.uint8)
        arrays = pictures_of(inputs, torch.zeros(20, dtype=torch.int64), torch.zeros(20, 10))
        assert len(arrays.get("pictures", [])) == num and pack(Message({}, arrays))


def test_a_result_that_cannot_be_passed_on_does_not_end_the_thread():
    about = {"scheme": "analog", "burst": 1, "cycles": 1, "time": 0.0}
    results = [Result(about | {"number": number}, {}, number) for number in range(4)]
    shown, kept, failures = [], [], []

    class Feed:
        def result(self, values, arrays):
            if values.get("number") == 1:
                raise LinkError("too large")
            shown.append(values.get("number", values.get("error")))

    def keep(number):
        if number in (0, 2):
            raise OSError(f"disk full {number}")
        kept.append(number)

    _publish(results, Feed(), keep, failures)
    assert shown == [0, "OSError: disk full 0", "too large", 2, "OSError: disk full 2", 3] and kept == [1, 3]
    (failure,) = failures
    assert str(failure) == "OSError: disk full 0" and failure.__traceback__ is None


def test_schemes_that_wait_are_few_and_the_oldest_goes(monkeypatch):
    burst = heard()
    evaluator = Evaluator(Listener(), ReceiveConfig(), 50, lambda: RADIO)
    for number in range(20):
        monkeypatch.setattr(burst, "manifest", lambda number=number: SimpleNamespace(scheme=f"scheme {number}"))
        evaluator.submit(burst)
    evaluator.finish()

    def refuse(*given, **options):
        raise LinkError("whatever")

    monkeypatch.setattr(live_evaluation, "evaluate_burst", refuse)
    monkeypatch.setattr(evaluator, "_how", lambda burst: (None, None))
    assert [result.values["scheme"] for result in evaluator] == [f"scheme {i}" for i in range(20 - MAX_WAITING, 20)]


@pytest.mark.parametrize(
    "reason, refused, failed",
    [
        (LinkError("no such architecture"), True, True),
        (RuntimeError("in code of the user's"), True, True),
        (NothingReceivedError("too weak"), False, True),
        (RadioError("unplugged"), False, False),
    ],
)
def test_a_burst_that_cannot_be_rebuilt_is_refused_where_frames_are_added(monkeypatch, reason, refused, failed):
    def fail(*given, **options):
        raise reason

    monkeypatch.setattr(live_evaluation, "evaluate_burst", fail)
    burst = heard()
    (result,) = evaluator_of(burst)
    assert str(reason) in result.values["error"] and result.reception is None
    assert (burst.refused, burst.failed) == (refused, burst.num_received if failed else 0)


def test_an_incomplete_burst_is_not_copied(monkeypatch):
    """The rows of frames that did not come use memory once they are copied."""
    burst = heard(missing=1)
    monkeypatch.setattr(BurstCombiner, "snapshot", None)
    (result,) = evaluator_of(burst)
    assert "error" not in result.values and result.values["report"]["frames"]["lost"] == 1
