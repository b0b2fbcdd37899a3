import io
import sys

from airnet_sdr.dsp.host.progress import Progress
from airnet_sdr.rx import receive
from airnet_sdr.tests.command import run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_every_stage(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        progress.stage("planning")
        progress.stage("sending", 4)
        progress.advance(2)
        progress._bar.refresh()
        progress.advance(1, total=3)
    assert "sending" in sys.stderr.getvalue() and "planning" not in sys.stderr.getvalue().splitlines()[-1]


def test_a_file_sees_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress() as progress:
        progress.stage("sending", 4)
        progress.advance()
    assert sys.stderr.getvalue() == ""


def test_the_receiver_counts_what_it_reads(recording, monkeypatch):
    seen = []
    monkeypatch.setattr(Progress, "advance", lambda self, num, total=None: seen.append((num, total)))
    stages = []
    monkeypatch.setattr(Progress, "stage", lambda self, title, total=None: stages.append(title))
    assert run(receive.main, "--radio", f"file:{recording}", "--evaluate", "none").status == 0
    assert sum(num for num, _ in seen) == seen[0][1] and stages[:2] == ["receiving", "evaluating"]
