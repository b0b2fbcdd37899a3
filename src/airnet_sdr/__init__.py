"""Send a neural network's weights over a radio as analog IQ samples, rebuild it at the far end, measure how it works.

    import airnet_sdr as air

    burst = air.make_burst("fashion", snr_db=5, seed=1)
    samples = air.transmit(burst, snr_db=5, seed=1)
    result = air.receive(samples)
    result.network, result.accuracy, result.report

The rooms are subpackages: `airnet_sdr.dsp`, `.models`, `.tx`, `.rx`, `.sim`. In a checkout they are the folders of
those names beside `src`; installed, they lie beside this file. The names below are loaded when they are first used
(PEP 562): importing this package imports no room and no torch, and changes no environment variable.
"""

import importlib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "dsp").is_dir() and (_ROOT / "dsp" / "frame.py").is_file():
    __path__.append(str(_ROOT))  # a checkout, installed or not

_HOMES = {
    "Burst": "tx.burst",
    "ChannelConfig": "sim.channel",
    "LinkError": "dsp.errors",
    "ListenConfig": "rx.config",
    "RadioConfig": "dsp.radio.config",
    "ReceiveConfig": "rx.config",
    "Reception": "rx.receiver",
    "SendConfig": "tx.config",
    "make_burst": "tx.sender",
    "receive": "rx.receiver",
    "register": "models.register",
    "transmit": "sim.loopback",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.import_module(f"{__name__}.dsp.host.command").version()
    if name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
