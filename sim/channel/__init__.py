"""The simulated air: impairments, their order and options, and the same in GNU Radio.

>>> import numpy as np
>>> channel = Channel(channel_preset("room", snr_db=20), rate_hz=2.5e6, freq_hz=2.4e9, seed=1)
>>> received = np.concatenate([channel.process(np.ones(5000, np.complex64)), channel.flush()])
>>> received.shape, received.dtype
((5011,), dtype('complex64'))
"""

from airnet_sdr.sim.channel.config import (
    PRESETS,
    ChannelConfig,
    add_channel_options,
    channel_config,
    channel_preset,
)
from airnet_sdr.sim.channel.pipeline import Channel

__all__ = ["PRESETS", "Channel", "ChannelConfig", "add_channel_options", "channel_config", "channel_preset"]
