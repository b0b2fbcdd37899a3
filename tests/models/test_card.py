"""The model card at the head of every manifest."""

import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.card import ModelCard


@pytest.mark.parametrize("widths", [(), (1,), (65535, 2, 3)])
def test_a_card_round_trips_and_leaves_what_follows(widths):
    card = ModelCard("fashion", "fashion-mnist", 0.5, widths)
    assert ModelCard.from_bytes(card.to_bytes() + b"after") == (card, b"after")


def test_metrics_travel_in_order_as_float32():
    card = ModelCard("a", "b", None, (3,), (("top-5", 0.9125), ("perplexity", 1e39), ("RMSE", -2.5)))
    back, rest = ModelCard.from_bytes(card.to_bytes() + b"after")
    assert [name for name, _ in back.metrics] == ["top-5", "perplexity", "RMSE"] and rest == b"after"
    assert [value for _, value in back.metrics] == pytest.approx([0.9125, np.finfo(np.float32).max, -2.5])


def test_an_unknown_accuracy_stays_unknown():
    assert ModelCard.from_bytes(ModelCard("a", "b").to_bytes())[0].accuracy is None


@pytest.mark.parametrize("accuracy", [0.0, 0.925, 0.9999, 1.0])
def test_accuracy_is_exact_to_a_hundred_thousandth(accuracy):
    back, _ = ModelCard.from_bytes(ModelCard("a", "b", accuracy).to_bytes())
    assert back.accuracy == pytest.approx(accuracy, abs=1e-5)


@pytest.mark.parametrize("card", [
    ModelCard("", "b"), ModelCard("a b", "b"), ModelCard("a" * 64, "b"), ModelCard("ä", "b"), ModelCard("../a", "b"),
    ModelCard("a", "-"), ModelCard("a", "b", 1.5), ModelCard("a", "b", -0.1), ModelCard("a", "b", np.nan),
    ModelCard("a", "b", None, (), (("", 1.0),)), ModelCard("a", "b", None, (), (("x" * 33, 1.0),)),
    ModelCard("a", "b", None, (), tuple((str(i), 1.0) for i in range(17))),
    ModelCard("a", "b", None, (0,)), ModelCard("a", "b", None, (65536,)), ModelCard("a", "b", None, (1,) * 256),
])  # fmt: skip
def test_what_does_not_fit_is_an_input_error(card):
    with pytest.raises(InputError, match="manifest: .* got") as caught:
        card.to_bytes()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [
    b"", b"\0", b"\x01/", b"\x01a\x01b\x01\0\0\0\0", b"\x01a\x01b\x01\0\x05\0",
    b"\x01a\x01b\0\0\0\x11", b"\x01a\x01b\0\0\0\x01\x01m\0", b"\x01a\x01b\0\0\0\x01\x01\n\0\0\0\0",
    b"\x01a\x01b\0\0\0\x02" + 2 * b"\x01m\0\0\0\0",
])  # fmt: skip
def test_bytes_that_are_no_card_say_so(data):
    """Nothing, no name, a path for a name, a layer without channels, a card cut short; metrics that are too many, cut
    short, of no name, of one name."""
    with pytest.raises((struct.error, IndexError)):
        ModelCard.from_bytes(data)
