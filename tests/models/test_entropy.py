"""Training for a number of bits: quantised values and their gradients, the entropy, and what comes out fits."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import steps_of
from airnet_sdr.models.digital.scheme import compressed, on_grid, weights_of
from airnet_sdr.models.entropy import BitTrainer, Quantiser
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.packing import load_vectors
from airnet_sdr.models.task import top1
from airnet_sdr.models.train import main, train
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.tests.command import assert_refused, run

WIDTHS = (6, 8, 8, 8, 8)
SMALL = TrainConfig(epochs=4, limit=160, batch_size=16, average_steps=5, hold_out=20, widths=WIDTHS, bits=4_000)


@pytest.fixture
def small_data(monkeypatch):
    """The first 200 test images stand for both splits."""
    real = data.load
    monkeypatch.setattr(
        data, "load", lambda dataset, split, data_dir=None: tuple(array[:200] for array in real(dataset, "test"))
    )


def weights(num=2000, scale=0.3):
    values = torch.from_numpy(np.random.default_rng(1).standard_normal(num).astype(np.float32))
    return {"w": (scale * values).requires_grad_()}


def test_values_are_multiples_of_the_step_and_the_entropy_is_theirs():
    held = weights()
    found, entropy, smooth = Quantiser(held, [0.25])(held)
    levels = (found["w"] / 0.25).detach().numpy()
    assert (
        np.allclose(levels, np.round(levels), atol=1e-5)
        and np.abs(levels * 0.25 - held["w"].detach().numpy()).max() < 0.126
    )
    share = np.unique(np.round(levels), return_counts=True)[1] / levels.size
    assert float(entropy) == pytest.approx(-levels.size * np.sum(share * np.log2(share)), rel=0.01)
    assert float(smooth.detach()) == pytest.approx(float(entropy), rel=0.1)


def test_gradients_are_straight_through_and_those_of_a_learned_step():
    """d/dw is that of the value, d/dD the sum of round(w/D) - w/D (Esser et al. 2020, equation 3)."""
    held = weights(500)
    quantiser = Quantiser(held, [0.25])
    found, _, _ = quantiser(held)
    wanted = torch.linspace(-1, 1, 500)
    (found["w"] * wanted).sum().backward()
    assert torch.allclose(held["w"].grad, wanted, atol=1e-6)
    scaled = held["w"].detach() / 0.25
    by_step = float((wanted * (scaled.round() - scaled)).sum())
    assert float(quantiser.log_steps.grad) == pytest.approx(by_step * 0.25 * math.log(2), rel=1e-3, abs=1e-3)


def test_the_price_draws_weights_to_zero_and_enlarges_steps():
    held = weights()
    quantiser = Quantiser(held, [0.25])
    _, _, smooth = quantiser(held)
    smooth.backward()
    assert (held["w"].grad * held["w"].detach().sign()).mean() > 0  # descending it makes them smaller
    assert float(quantiser.log_steps.grad) < 0


@pytest.mark.parametrize("above", [2.0, 0.5])
def test_the_price_follows_the_entropy(above):
    held = weights()
    quantiser = Quantiser(held, [0.25])
    first = quantiser.price
    quantiser(held)[2].backward()
    quantiser.control(above * 1000, 1000, 1.0, 0.0)
    assert (quantiser.price > first) == (quantiser.price_now > first) == (above > 1)


def test_what_is_trained_fits_lies_on_levels_and_is_what_arrives(small_data, tmp_path):
    checkpoint = train(SMALL, tmp_path, "command")
    data = compressed(checkpoint, 500)
    assert load(tmp_path / "fashion.safetensors").metadata["bits"] == str(8 * len(data))
    assert len(data) <= 500 and len(steps_of(checkpoint.metadata)) == 6
    arrived = weights_of(data, [tensor.size for tensor in checkpoint.tensors.values()])
    for sent, received in zip(checkpoint.tensors.values(), arrived, strict=True):
        assert np.array_equal(sent.reshape(-1), received)
    images, labels = (array[:200] for array in load_data("fashion-mnist", "test"))
    module = load_vectors(checkpoint.module(), arrived)
    assert top1(logits(module, images), labels) == pytest.approx(checkpoint.accuracy)


def test_half_precision_keeps_the_levels(small_data, tmp_path):
    train(dataclasses.replace(SMALL, half=True, epochs=1), tmp_path, "command")
    kept = load(tmp_path / "fashion.safetensors")
    tensors = on_grid(list(kept.tensors.values()), steps_of(kept.metadata))
    assert len(compress.encode(tensors)) <= 500
    assert all(
        np.allclose(weights.reshape(-1), weights_of(compress.encode([tensor]), [weights.size])[0], rtol=1e-3, atol=1e-6)
        for weights, tensor in zip(kept.tensors.values(), tensors, strict=True)
    )


def test_a_hybrids_weights_stay_near_the_levels_of_a_base_that_fits(small_data, tmp_path):
    """They lie between levels, and are taken for the same levels again, from half precision, too."""
    config = dataclasses.replace(SMALL, half=True, epochs=2, refine=True, min_snr_db=0, max_snr_db=5)
    train(config, tmp_path, "command")
    assert "at 0 dB" in (tmp_path / "train.log").read_text()
    kept = load(tmp_path / "fashion.safetensors")
    data = compressed(kept, 500)
    assert abs(8 * len(data) - int(kept.metadata["bits"])) <= 8 and len(data) <= 500
    base = weights_of(data, [tensor.size for tensor in kept.tensors.values()])
    for weights, levels, step in zip(kept.tensors.values(), base, steps_of(kept.metadata), strict=True):
        left = np.abs(weights.reshape(-1) - levels)
        assert left.max() < 0.4 * step and left.mean() > 0.05 * step
    names = load_file(tmp_path / "fashion.safetensors")
    assert {tensor.dtype for name, tensor in names.items() if name.startswith("conv")} == {np.dtype(np.int8)}


def test_a_hybrid_is_trained_with_noise_on_what_quantisation_leaves(tmp_path):
    """On levels nothing is left, and noise has no say; between them it has."""
    config = dataclasses.replace(SMALL, refine=True, min_snr_db=0, max_snr_db=0)
    images, labels = torch.randint(0, 255, (16, 1, 28, 28), dtype=torch.uint8), torch.arange(16) % 10

    def losses(trainer):
        trainer._done, trainer.num_batches = 0, 1
        steps = trainer.quantiser.log_steps.detach().clone()
        for seed in (1, 2):
            with torch.no_grad():
                trainer.quantiser.log_steps.copy_(steps)
            yield trainer.backward((images, labels), torch.Generator().manual_seed(seed))

    between = BitTrainer(config)
    one, other = losses(between)
    assert one != other
    on = BitTrainer(config)
    with torch.no_grad():
        for weight, step in zip(on.weights.values(), on.quantiser.steps, strict=True):
            weight.copy_((weight / step).round() * step)
    one, other = losses(on)
    assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("prune_to", [None, 2000])
def test_the_best_of_all_epochs_is_the_result(small_data, tmp_path, monkeypatch, prune_to):
    """Of the widths that pruning leaves, averaged or not; a training that was stopped knows what it had kept."""
    config, losses, real = dataclasses.replace(SMALL, best=True, prune_to=prune_to), [], BitTrainer.keep

    def keep(self, candidate, loss):
        losses.append((sum(tensor.numel() for tensor in candidate[0].parameters()), loss))
        real(self, candidate, loss)

    monkeypatch.setattr(BitTrainer, "keep", keep)
    checkpoint = train(config, tmp_path / "whole", "")
    last = losses[-1][0]
    assert len(losses) == 2 * SMALL.epochs
    assert float(checkpoint.metadata["validation_loss"]) == pytest.approx(
        min(loss for num, loss in losses if num == last), abs=1e-5
    )
    data = compressed(checkpoint, 500)
    assert str(8 * len(data)) == checkpoint.metadata["bits"]
    arrived = weights_of(data, [tensor.size for tensor in checkpoint.tensors.values()])
    assert all(np.array_equal(a, b.reshape(-1)) for a, b in zip(arrived, checkpoint.tensors.values(), strict=True))
    saved, stop = BitTrainer.save_state, []

    def save_state(self, path):
        saved(self, path)
        if self.epoch == 3 and not stop:
            stop.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(BitTrainer, "save_state", save_state)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", "")
    again = train(config, tmp_path / "stopped", "", resume=True)
    assert again.metadata == checkpoint.metadata
    assert all(np.array_equal(again.tensors[name], checkpoint.tensors[name]) for name in checkpoint.tensors)


@pytest.mark.parametrize("options", [{"bits": None}, {"refine": True, "max_snr_db": 5.0}])
def test_the_best_is_one_of_bits_and_no_hybrid(options):
    with pytest.raises(InputError, match="`best` goes with `bits`"):
        dataclasses.replace(SMALL, best=True, **options)


@pytest.mark.parametrize("options", [{"bits": None}, {"max_snr_db": math.inf}])
def test_a_hybrid_needs_bits_and_noise(options):
    with pytest.raises(InputError, match="refine"):
        dataclasses.replace(SMALL, refine=True, **options)


def test_a_trained_network_goes_on_from_its_own_steps(small_data, tmp_path):
    train(dataclasses.replace(SMALL, epochs=1), tmp_path, "command")
    path = tmp_path / "fashion.safetensors"
    again = BitTrainer(dataclasses.replace(SMALL, init=str(path), widths=()))
    assert again.quantiser.steps == pytest.approx(steps_of(load(path).metadata), rel=1e-5)


def test_bits_that_cannot_be_are_refused():
    assert_refused(run(main, "--out", "x", "--bits", "0"), 1, "--bits")
    with pytest.raises(InputError, match="nested"):
        TrainConfig(bits=1000, nested=((4, 4, 4, 4, 4),))
