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
# # Accuracy against SNR of your own network
#
# The network tells modulations apart from IQ samples. It is not part of the program: its code and its data are in one
# file, `models/examples/modulation.py`, as yours could be. We train it without noise, send it at several SNRs, and
# compare it with the same network trained with the noise of the link.
#
# Open this file as a notebook with jupytext, or run its cells in an editor that knows `# %%`.

# %%
import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import airnet_sdr as air

EPOCHS = 8
SNR_DB = [-5, 0, 5, 10, 15, 20]
LINK_SEEDS = [1, 2, 3]

EXAMPLES = Path(air.__file__).resolve().parents[2] / "models" / "examples"
FILE = EXAMPLES / "modulation.py"
ARCHITECTURE = f"{FILE}:modulation"  # the file and the function in it that makes the network

# %% [markdown]
# ## Your network and your data
#
# A function without arguments that makes the network, and `load_data(split, data_dir)` that returns inputs and labels.

# %%
spec = importlib.util.spec_from_file_location("modulation", FILE)
mine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mine)
inputs, labels = mine.load_data("train")
print(inputs.shape, labels.shape)

# %% [markdown]
# ## Train it as you do
#
# Plain PyTorch, without noise on the weights.

# %%
torch.manual_seed(1)
network = mine.modulation().train()
num_steps = EPOCHS * (len(inputs) // 100)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=num_steps)
for _ in range(EPOCHS):
    for batch in torch.randperm(len(inputs))[: len(inputs) // 100 * 100].split(100):
        loss = torch.nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

# %% [markdown]
# ## Send it
#
# Both ends get the architecture. The receiver makes the network by it, and measures accuracy on `load_data("test")`.
# Batch norm's statistics are predicted by the sender: the receiver needs no inputs for them.


# %%
def accuracy(burst, snr_db, seed):
    """Top-1 accuracy of the network as it arrives."""
    result = air.receive(air.transmit(burst, snr_db=snr_db, seed=seed), architecture=ARCHITECTURE)
    return result.accuracy


entrants = {
    "trained without noise": network.eval(),
    "trained with noise": EXAMPLES / "modulation.safetensors",
}
curves = {}
for label, entrant in entrants.items():
    curves[label] = []
    for snr_db in SNR_DB:
        burst = air.make_burst(entrant, architecture=ARCHITECTURE, snr_db=snr_db, uep="size", seed=1)
        curves[label].append([accuracy(burst, snr_db, seed) for seed in LINK_SEEDS])
        print(f"{label}, {snr_db} dB: {100 * np.mean(curves[label][-1]):.1f} %")

# %% [markdown]
# ## Compare

# %%
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for label, trials in curves.items():
    percent = 100 * np.array(trials)
    axes.errorbar(SNR_DB, percent.mean(axis=1), percent.std(axis=1), marker="o", ms=4, capsize=3, label=label)
axes.set(xlabel="SNR per payload symbol, dB", ylabel="top-1, %", title="mean and deviation over link seeds")
axes.grid(alpha=0.3)
axes.legend()
figure.savefig("out/accuracy_against_snr.png", dpi=160)

# %% [markdown]
# To train it with noise instead:
# `python models/train.py --architecture models/examples/modulation.py:modulation --out out/modulation`
