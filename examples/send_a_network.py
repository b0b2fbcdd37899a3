# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Send a network and look at what arrived
#
# A shipped network goes through the simulated air of a room, and we look at the samples, the weights and the accuracy.
# Open this file as a notebook with jupytext, or run its cells in an editor that knows `# %%`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import airnet_sdr as air
from airnet_sdr.models.checkpoint import load

# %% [markdown]
# ## Send
#
# `make_burst` plans the transmission for 10 dB per payload symbol. `transmit` is the air: noise, the echoes of a room,
# a carrier offset of 40 kHz.

# %%
burst = air.make_burst("fashion", snr_db=10, seed=1)
samples = air.transmit(burst, preset="room", snr_db=10, cfo_hz=40e3, seed=1)
print(f"{samples.size:,} samples, {samples.dtype}")

# %%
figure, (time_axes, spectrum_axes) = plt.subplots(1, 2, figsize=(11, 3.5), layout="constrained")
time_axes.plot(np.arange(samples.size) / 2.5e6 * 1e3, np.abs(samples), lw=0.2)
time_axes.set(xlabel="time, ms", ylabel="|sample|")
spectrum_axes.psd(samples, NFFT=1024, Fs=2.5, lw=0.8)
spectrum_axes.set(xlabel="frequency, MHz", ylabel="power density, dB")

# %% [markdown]
# ## Receive
#
# The receiver gets the samples alone. `truth` is for the report only: with it the true error of the weights is known.

# %%
result = air.receive(samples, truth="fashion")
sync, weights = result.report["sync"], result.report["weights"]
print(f"SNR {sync['snr_db']:.1f} dB per payload symbol, carrier offset {sync['cfo_hz']:+.0f} Hz")
print(f"weights: {weights['snr_db']:.1f} dB estimated, NMSE {weights['nmse_db']:.1f} dB measured")
print(f"accuracy {100 * result.accuracy:.2f} %, sent with {100 * result.report['accuracy_sent']:.2f} %")

# %% [markdown]
# ## Look at the weights
#
# Sent against received, for the first layer and the largest one. Unequal error protection gives the first layer, which
# matters most, more power.

# %%
sent, arrived = load("fashion").tensors, result.network.state_dict()
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
largest = max(sent, key=lambda name: sent[name].size)
for axes, name in zip(panels, (next(iter(sent)), largest), strict=True):
    axes.plot(sent[name].ravel(), arrived[name].numpy().ravel(), ".", ms=2, alpha=0.3)
    axes.axline((0, 0), slope=1, color="black", lw=0.8)
    axes.set(xlabel="sent", ylabel="received", title=name)

# %%
for layer in result.report["layers"]:
    print(f"{layer['name']:14} {layer['copies']} copies, {layer['power_db']:+.2f} dB: NMSE {layer['nmse_db']:.1f} dB")

# %% [markdown]
# ## Below the noise
#
# Sent four times at -5 dB: the receiver combines the cycles.

# %%
samples = air.transmit(burst, snr_db=-5, cycles=4, seed=1)
weak = air.receive(samples)
print(
    f"{weak.report['frames']['cycles']} cycles at {weak.report['sync']['snr_db']:.1f} dB: {100 * weak.accuracy:.2f} %"
)

# %% [markdown]
# `result.draw` writes the picture of the report, `result.save` the weights.

# %%
result.draw("out/notebook.png")
result.save("out/notebook.safetensors")
