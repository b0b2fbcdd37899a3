"""The report as a picture: constellation, channel, error of each layer, accuracy sent and received."""

import io
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.combine import BurstCombiner


def draw(path: str | os.PathLike, report: dict, burst: BurstCombiner) -> None:
    """Draw the report: constellation, channel, error of each layer, accuracy sent and received."""
    frame, fmt = burst.latest, burst.fmt
    figure = Figure(figsize=(11, 8), layout="constrained")
    constellation, channel, layers, accuracy = figure.subplots(2, 2).flat

    payload = frame.equalised[:4000]
    control = frame.equalised_control
    constellation.plot(
        payload.real,
        payload.imag,
        ".",
        ms=1.5,
        color="tab:blue",
        alpha=0.5,
        label=f"payload: weights, {report['scheme']}",
    )
    constellation.plot(control.real, control.imag, ".", ms=3, color="tab:orange", label="control: QPSK")
    reach = 3.2
    constellation.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="I", ylabel="Q")
    constellation.set_title(f"constellation of the last frame, {report['sync']['snr_db']:.1f} dB per symbol")
    constellation.legend(loc="upper right", fontsize="small")

    rate = report["radio"]["rate_hz"]
    gain = np.abs(frame.channel.h_hat) ** 2
    channel.plot(fmt.subcarriers * rate / fmt.fft_size / 1e3, db(gain / np.mean(gain)))
    channel.set(xlabel="subcarrier (kHz)", ylabel="gain over mean (dB)")
    channel.set_title(
        f"channel; CFO {report['sync']['cfo_hz'] / 1e3:+.2f} kHz, clock {report['sync']['sco_ppm']:+.1f} ppm"
    )

    names = [layer["name"] for layer in report["layers"]]
    errors = [layer["nmse_db"] for layer in report["layers"]]
    known = all(value is not None for value in errors)
    layers.barh(names, errors if known else [0] * len(names), color="tab:green")
    layers.invert_yaxis()
    layers.set(
        xlabel="weight NMSE (dB)", title="error of each layer" if known else "error of each layer: needs --truth"
    )
    for i, layer in enumerate(report["layers"]):
        layers.annotate(
            f" ×{layer['copies']}, {layer['power_db']:+.2f} dB", (0, i), fontsize="small", va="center", ha="left"
        )
    layers.margins(x=0.25)

    bars = {"sent": report["accuracy_sent"], "received": report["accuracy"]}
    shown = {name: 100 * value for name, value in bars.items() if value is not None}
    drawn = accuracy.bar(list(shown), list(shown.values()), color=["tab:gray", "tab:blue"][: len(shown)], width=0.5)
    accuracy.bar_label(drawn, fmt="%.2f %%")
    accuracy.set(ylim=(0, 105), ylabel="top-1 accuracy (%)", title=f"{report['model']}: accuracy")
    frames = report["frames"]
    figure.suptitle(f"{frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s)")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_whole(Path(path), picture.getvalue())
