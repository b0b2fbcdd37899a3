"""Calls into a library that a signal leaves behind: they end before the next begins, or never begin."""

import threading
import time

import pytest

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.radio.native import Calls


def interrupted(calls, call, monkeypatch):
    """Begin a call that a signal interrupts at once."""

    class Joined(threading.Thread):
        def join(self, timeout=None):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Joined)
        with pytest.raises(KeyboardInterrupt):
            calls(call, 5, "asking")


def test_one_that_was_left_behind_ends_before_the_next_begins(monkeypatch):
    calls, order, begun, end = Calls(), [], threading.Event(), threading.Event()
    interrupted(calls, lambda: (begun.set(), end.wait(5), order.append("left behind")), monkeypatch)
    assert begun.wait(5) and calls.under_way and not calls.over(0.01)
    threading.Timer(0.1, end.set).start()
    assert calls(lambda: order.append("next") or 7, 5, "asking") == 7
    assert order == ["left behind", "next"] and calls.over(1) and not calls.under_way


def test_one_that_had_not_begun_never_does(monkeypatch):
    calls, done, begun, end = Calls(), [], threading.Event(), threading.Event()
    interrupted(calls, lambda: (begun.set(), end.wait(5)), monkeypatch)
    assert begun.wait(5)
    interrupted(calls, lambda: done.append("too late"), monkeypatch)
    end.set()
    assert calls(lambda: "next", 5, "asking") == "next"
    time.sleep(0.05)
    assert done == []


def test_one_that_hangs_is_waited_for_no_longer_than_asked():
    calls, end = Calls(), threading.Event()
    with pytest.raises(RadioTimeoutError, match="asking took longer than 0.05 s"):
        calls(lambda: end.wait(5), 0.05, "asking")
    with pytest.raises(RadioTimeoutError, match="muting took"):
        calls(lambda: 1, 0.05, "muting")
    end.set()
    assert calls.over(1)
