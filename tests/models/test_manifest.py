import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.expansion import SHAPES, Density
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.curves import curve_of, expansion_curves
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.manifest import MAX_PARTS, Manifest
from airnet_sdr.models.payload import AnalogPayload, DigitalPayload, HybridPayload
from airnet_sdr.models.payload.tensors import TensorPlan, centre_and_scale


def manifest_of(model, dataset, accuracy, tensors=(), widths=(), coded=None):
    """A manifest of one part, of the kind that tensors and coded make it."""
    analog, digital = AnalogPayload(tuple(tensors)), DigitalPayload(coded)
    part = analog if coded is None else HybridPayload(digital, analog) if tensors else digital
    return Manifest(ModelCard(model, dataset, accuracy, tuple(widths)), (part,))


def tensors_of(manifest):
    """The plans of an analog manifest."""
    (part,) = manifest.parts
    return part.tensors


def random_manifest(rng, num_tensors=12):
    """A manifest whose values are all on the grid that travels."""
    tensors = []
    for _ in range(num_tensors):
        mean, scale = centre_and_scale(rng.standard_normal(50) * 10 ** rng.uniform(-6, 3) + rng.standard_normal())
        density, curve = (
            Density(SHAPES[rng.integers(len(SHAPES))]),
            curve_of(int(rng.integers(len(expansion_curves()) + 1))),
        )
        copies, power_db = int(rng.integers(1, 256)), int(rng.integers(-128, 128)) / 4
        tensors.append(TensorPlan(mean, scale, copies, power_db, density, curve))
    widths = tuple(rng.integers(1, 65536, int(rng.integers(8))).tolist()) if num_tensors != 12 else ()
    return manifest_of("fashion", "fashion-mnist", int(rng.integers(65535)) / 65534, tuple(tensors), widths)


def test_manifests_round_trip_with_any_padding():
    rng = np.random.default_rng(1)
    for num_tensors in (0, 1, 12, 300):
        for _ in range(50):
            manifest = random_manifest(rng, num_tensors)
            assert Manifest.from_bytes(manifest.to_bytes() + b"\0" * int(rng.integers(40))) == manifest


def test_a_digital_payload_round_trips_in_few_bytes():
    manifest = manifest_of("fashion", "fashion-mnist", 0.5, (), (1, 2), CodedPayload(16_060, 157_752, 2))
    data = manifest.to_bytes()
    assert len(data) < 50 and Manifest.from_bytes(data + bytes(9)) == manifest


def test_a_hybrid_has_the_payload_and_the_plans():
    plans = tensors_of(random_manifest(np.random.default_rng(3)))
    digital, hybrid = (manifest_of("a", "b", 0.5, each, (7,), CodedPayload(50, 900, 4)) for each in ((), plans))
    data = hybrid.to_bytes()
    assert len(data) == len(digital.to_bytes()) + 2 + 8 * 12 and Manifest.from_bytes(data + bytes(9)) == hybrid
    assert [each.scheme for each in (manifest_of("a", "b", None, plans), digital, hybrid)] == [
        "analog",
        "digital",
        "hybrid",
    ]
    with pytest.raises(LinkError):
        Manifest.from_bytes(data[:-1])


@pytest.mark.parametrize("payload", [(0, 100, 2), (1000, 10, 2), (10, 1000, 3), (2**32 - 1, 2**32 - 1, 8)])
def test_a_digital_payload_that_cannot_be_is_a_link_error(payload):
    data = manifest_of("a", "b", None, (), (), CodedPayload(10, 1000, 2)).to_bytes()
    hostile = data[:-9] + struct.pack(">IIB", *payload)
    with pytest.raises(LinkError):
        Manifest.from_bytes(hostile)


def test_twelve_tensors_take_less_than_200_bytes():
    assert len(random_manifest(np.random.default_rng(2)).to_bytes()) == 133


def plan(**fields):
    return manifest_of(
        "a", "b", 0.5, (TensorPlan(**{"mean": 0.0, "scale": 1.0, "copies": 1, "power_db": 0.0} | fields),)
    )


@pytest.mark.parametrize("manifest", [
    manifest_of("", "b", 0.5, ()), manifest_of("a b", "b", 0.5, ()), manifest_of("a" * 64, "b", 0.5, ()),
    manifest_of("ä", "b", 0.5, ()), manifest_of("../a", "b", 0.5, ()),
    manifest_of("a", "b", 1.5, ()), manifest_of("a", "b", -0.1, ()),
    plan(copies=0), plan(copies=256), plan(power_db=40.0), plan(power_db=-40.0), plan(power_db=-np.inf),
    plan(mean=np.nan), plan(mean=np.inf), plan(scale=np.nan), plan(scale=np.inf), plan(scale=-1.0),
    manifest_of("a", "b", np.nan, ()), manifest_of("a", "b", 0.5, (), (0,)), manifest_of("a", "b", 0.5, (), (65536,)),
    manifest_of("a", "b", 0.5, (), (1,) * 256),
])  # fmt: skip
def test_what_does_not_fit_is_an_input_error(manifest):
    with pytest.raises(InputError) as caught:
        manifest.to_bytes()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_any_bytes_give_a_manifest_or_a_link_error():
    """Random bytes, truncations and flipped bits; a manifest that comes out is finite and encodes again."""
    rng = np.random.default_rng(3)
    good = random_manifest(rng).to_bytes()
    candidates = [b"", b"\0", b"\xff" * 400, *(good[:n] for n in range(len(good)))]
    candidates += [rng.bytes(int(rng.integers(200))) for _ in range(2000)]
    for _ in range(5000):
        mutant = bytearray(good)
        for at in rng.integers(0, len(good), int(rng.integers(1, 5))):
            mutant[at] = int(rng.integers(256))
        candidates.append(bytes(mutant))
    valid = 0
    for data in candidates:
        try:
            manifest = Manifest.from_bytes(data)
        except LinkError:
            continue
        valid += 1
        assert all(np.isfinite([t.mean, t.scale, t.power_db]).all() and t.copies >= 1 for t in tensors_of(manifest))
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert 500 < valid < 6000


def test_a_density_that_there_is_not_is_a_link_error():
    with pytest.raises(LinkError, match="density"):
        Manifest.from_bytes(plan().to_bytes()[:-2] + bytes([len(SHAPES), 0]))


# several parts

CARD = ModelCard("fashion", "fashion-mnist", 0.5, (7, 9))
DIGITAL = DigitalPayload(CodedPayload(50, 900, 4))


def several(rng, num=3):
    """Parts of all kinds, each a few times."""
    coded = [DIGITAL, DigitalPayload(DIGITAL.coded, 1 + int(rng.integers(50)))]
    kinds = [lambda: manifest_part(rng), lambda: coded[0], lambda: HybridPayload(coded[1], manifest_part(rng))]
    return tuple(kinds[i % 3]() for i in range(num))


def manifest_part(rng):
    """An analog part of as many tensors as chance wants."""
    return random_manifest(rng, int(rng.integers(5))).parts[0]


def list_of(*parts, count=None):
    """A manifest's bytes with a list of parts, each (kind, body), written here by hand."""
    data = CARD.to_bytes() + struct.pack(">BIB", 0, 0, len(parts) if count is None else count)
    codes = {b"analog": b"\0", b"digital": b"\1", b"hybrid": b"\2", b"state": b"\3"}
    for kind, body in parts:
        data += codes.get(kind, bytes([128 + len(kind)]) + kind) + struct.pack(">H", len(body)) + body
    return data


@pytest.mark.parametrize("num", [2, 3, 7, MAX_PARTS])
def test_several_parts_round_trip_in_their_order_with_any_padding(num):
    rng = np.random.default_rng(num)
    for _ in range(20):
        manifest = Manifest(CARD, several(rng, num))
        back = Manifest.from_bytes(manifest.to_bytes() + b"\0" * int(rng.integers(40)))
        assert back == manifest
    assert back.scheme == "+".join(["analog", "digital", "hybrid"][i % 3] for i in range(num))


def test_the_list_is_as_the_format_says():
    """A change here is a new version of the format: what is on the air must be read by what is out there."""
    (analog,) = random_manifest(np.random.default_rng(1), 2).parts
    parts = [(b"analog", analog.to_bytes()), (b"digital", struct.pack(">IIB", 50, 900, 4))]
    assert Manifest(CARD, (analog, DIGITAL)).to_bytes() == list_of(*parts)
    with_state = [(b"digital", struct.pack(">IIBI", 50, 900, 0x84, 17))]
    assert Manifest(CARD, (DigitalPayload(DIGITAL.coded, 17),)).to_bytes() == list_of(*with_state)


def test_symbols_of_several_parts_are_those_of_each():
    plans = (TensorPlan(0.0, 1.0, 3, 0.0), TensorPlan(0.0, 1.0, 1, 0.0))
    manifest = Manifest(CARD, (AnalogPayload(plans), DIGITAL, AnalogPayload(plans)))
    assert manifest.num_symbols([10, 7]) == 2 * (3 * 5 + 4) + 900


@pytest.mark.parametrize("num", [0, MAX_PARTS + 1])
def test_no_parts_or_too_many_are_an_input_error(num):
    with pytest.raises(InputError, match=f"parts must be 1 to {MAX_PARTS}; got {num}"):
        Manifest(CARD, (DIGITAL,) * num).to_bytes()


def test_a_kind_unknown_here_is_a_link_error_that_names_those_known():
    with pytest.raises(LinkError, match="'morse', here there are: state, analog, digital, hybrid"):
        Manifest.from_bytes(list_of((b"digital", DIGITAL.to_bytes()), (b"morse", b"...---...")))


def test_a_list_that_is_cut_anywhere_is_a_link_error():
    data = Manifest(CARD, several(np.random.default_rng(2))).to_bytes()
    for end in range(len(CARD.to_bytes()), len(data)):
        with pytest.raises(LinkError):
            Manifest.from_bytes(data[:end])


@pytest.mark.parametrize("data", [
    list_of(), list_of(*[(b"digital", DIGITAL.to_bytes())] * (MAX_PARTS + 1)),
    list_of((b"digital", DIGITAL.to_bytes()), count=2), list_of((b"digital", DIGITAL.to_bytes()), count=255),
    list_of((b"", DIGITAL.to_bytes())), list_of((b"digit\xe4l", DIGITAL.to_bytes())),
    list_of((b"digital", b"")), list_of((b"digital", DIGITAL.to_bytes()[:-1])),
    list_of((b"digital", struct.pack(">IIB", 1000, 10, 2))),  # 8000 bits on 20
    list_of((b"analog", struct.pack(">H", 65532))), list_of((b"analog", struct.pack(">H", 65535) + bytes(99))),
    list_of((b"hybrid", DIGITAL.to_bytes())),
    list_of((b"digital", DIGITAL.to_bytes()))[:-11] + struct.pack(">H", 2**16 - 1) + DIGITAL.to_bytes(),
    list_of((b"state", struct.pack(">IBI", 0, 6, 0))), list_of((b"state", struct.pack(">IBI", 9, 6, 0))),  # no weights
])  # fmt: skip
def test_a_hostile_list_is_a_link_error_in_one_line(data):
    with pytest.raises(LinkError) as caught:
        Manifest.from_bytes(data)
    assert "\n" not in str(caught.value)


def test_a_state_follows_its_weights_once():
    """Each takes time to decode, and only the last would count."""
    weights, state = (b"digital", DIGITAL.to_bytes()), (b"state", struct.pack(">IBI", 9, 6, 0))
    with pytest.raises(LinkError, match="state twice"):
        Manifest.from_bytes(list_of(weights, state, state))
    assert len(Manifest.from_bytes(list_of(weights, state, weights, state)).parts) == 4


@pytest.mark.filterwarnings("error")
def test_any_bytes_after_the_head_of_a_list_give_a_manifest_or_a_link_error():
    rng = np.random.default_rng(5)
    good = Manifest(CARD, several(rng)).to_bytes()
    first, valid = len(CARD.to_bytes()), 0
    for _ in range(3000):
        mutant = bytearray(good)
        for at in rng.integers(first, len(good), int(rng.integers(1, 4))):
            mutant[at] = int(rng.integers(256))
        try:
            manifest = Manifest.from_bytes(bytes(mutant))
        except LinkError:
            continue
        valid += 1
        assert 1 <= len(manifest.parts) <= MAX_PARTS and Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert 300 < valid < 2900
