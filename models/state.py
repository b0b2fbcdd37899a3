"""The state of a stopped training, from which it goes on exactly: tensors by kind and name, and facts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models.train_config import TrainConfig

Tensors = dict[str, dict[str, Tensor]]  # by kind, then by name


def write_state(path: Path, config: TrainConfig, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write the state whole or not at all."""
    state: dict[str, Tensor] = {}
    taken = set()  # places in memory: a tied tensor is one of several names, and is written under each
    for kind, held in tensors.items():
        for name, tensor in held.items():
            dense = tensor.cpu().contiguous()
            state[f"{kind}.{name}"] = dense.clone() if dense.data_ptr() in taken else dense
            taken.add(dense.data_ptr())
    state["rng.torch"] = torch.get_rng_state()
    metadata = {"config": json.dumps(dataclasses.asdict(config)), "facts": json.dumps(facts)}
    write_whole(path, serialise(state, metadata))


def read_state(path: Path, config: TrainConfig) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and facts of a state, torch's random numbers put where they were.

    More epochs than the state was made with extend the training. Raises InputError if the state is missing, damaged, or
    of other options, which are named.
    """
    try:
        with safe_open(path, "pt") as state:
            metadata = state.metadata()
            stored: Tensors = {}
            for key in state.keys():  # noqa: SIM118 - a safetensors file is no dictionary
                kind, name = key.split(".", 1)
                stored.setdefault(kind, {})[name] = state.get_tensor(key)
        made, facts = json.loads(metadata["config"]), json.loads(metadata["facts"])
        rng = stored.pop("rng")["torch"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no state to resume from ({error}); start anew without --resume") from error
    now, usual = (json.loads(json.dumps(dataclasses.asdict(each))) for each in (config, TrainConfig()))
    made = usual | made  # an option that came later
    odd = [f"`{name}` was {made[name]}, now it is {value}" for name, value in now.items() if made[name] != value]
    if now["epochs"] > made["epochs"]:
        odd = [text for text in odd if not text.startswith("`epochs`")]
    if odd:
        raise InputError(f"{path} was made with other options: {'; '.join(odd)}; resume with the same options")
    torch.set_rng_state(rng)
    return stored, facts
