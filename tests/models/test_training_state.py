import torch
from torch import nn

from airnet_sdr.models.state import read_state, write_state
from airnet_sdr.models.train_config import TrainConfig


def test_tied_tensors_are_kept_under_each_of_their_names(tmp_path):
    network = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    network[1].weight = network[0].weight
    write_state(tmp_path / "s.safetensors", TrainConfig(), {"now": network.state_dict()}, {"epoch": 1})
    stored, facts = read_state(tmp_path / "s.safetensors", TrainConfig())
    assert facts == {"epoch": 1} and stored["now"].keys() == {"0.weight", "1.weight"}
    assert all(torch.equal(tensor, network[0].weight) for tensor in stored["now"].values())
