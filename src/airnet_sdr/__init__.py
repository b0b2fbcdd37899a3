"""Send a neural network's weights over a radio as analog IQ samples, rebuild it at the far end, measure how it works.

    import airnet_sdr as air

    burst = air.make_burst("fashion", snr_db=5, seed=1)
    samples = air.transmit(burst, snr_db=5, seed=1)
    result = air.receive(samples)
    result.network, result.accuracy, result.report

The rooms are subpackages: `airnet_sdr.dsp`, `.models`, `.tx`, `.rx`, `.sim`. In a checkout they are the folders of
those names beside `src`; installed, they lie beside this file. Importing this package imports none of them, no torch.
"""

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "dsp").is_dir() and (_ROOT / "dsp" / "frame.py").is_file():
    __path__.append(str(_ROOT))  # a checkout, installed or not
