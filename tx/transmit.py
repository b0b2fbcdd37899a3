"""Transmits a burst over a radio that takes samples, or one that repeats a burst by itself."""

from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.radio import Sink
from airnet_sdr.dsp.radio.record import recording
from airnet_sdr.tx.burst import Burst, modulate, transmission
from airnet_sdr.tx.config import TransmissionConfig

WATCH_S = 1.0  # interval at which a repeating radio is checked


def put_on_air(
    burst: Burst,
    sink: Sink,
    config: TransmissionConfig,
    on_air: Callable[[], None] = lambda: None,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Open the sink and send the burst, as often as configured.

    ``on_air`` is called once a radio repeats the burst by itself, ``on_frame`` after every frame that is sent.

    A radio that can repeat the burst by itself does so for endless transmission.
    """
    with sink:
        cyclic = config.cycles == 0 and burst.num_samples <= sink.cyclic_samples
        if cyclic:
            sink.repeat(np.concatenate(list(modulate(burst))))
        with recording(config.record, sink) as record:
            for samples, label in transmission(burst, 1 if cyclic else config.cycles) if record or not cyclic else ():
                if record:
                    record.send(samples, label)
                if not cyclic:
                    sink.send(samples, label)
                if label is not None:
                    on_frame()
        if cyclic:
            on_air()
        while cyclic:
            sink.watch(WATCH_S)
