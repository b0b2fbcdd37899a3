"""A recording beside a radio: the samples sent or received, written by --record."""

import contextlib

import numpy as np

from airnet_sdr.dsp.radio.address import parse
from airnet_sdr.dsp.radio.base import RadioConfig, Sink, Source
from airnet_sdr.dsp.radio.scale import BACKOFF_DB
from airnet_sdr.dsp.radio.sigmf_file import SigmfSink


def recording(path: str | None, radio: Sink | Source) -> contextlib.AbstractContextManager:
    """A context with the recording at ``path`` of the radio's samples; None without a path."""
    if path is None:
        return contextlib.nullcontext()
    sending = isinstance(radio, Sink)
    tuned = radio.config if isinstance(radio, Sink) else radio  # a recording's own rate and frequency are its source's
    config = RadioConfig(freq_hz=tuned.freq_hz, rate_hz=tuned.rate_hz, backoff_db=BACKOFF_DB if sending else None)
    sink = Recording(parse(f"file:{path}"), config)
    sink.hardware = str(radio.describe().get("device", radio.address))
    return sink


class Recording(SigmfSink):
    """A recording that is kept complete also after Ctrl-C or a radio failure."""

    def __exit__(self, exc_type, exc, traceback):
        self._close(failed=exc_type is not None and self.samples == 0)


class RecordedSource:
    """A source whose samples are also written down."""

    def __init__(self, source: Source, record: SigmfSink):
        self._source, self._record = source, record

    def read(self, timeout_s: float | None = None) -> np.ndarray | None:
        """The next block of the source, written down before it is passed on."""
        block = self._source.read(timeout_s)
        if block is not None and block.size:
            self._record.send(block)
        return block

    def __getattr__(self, name):
        return getattr(self._source, name)
