import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.expansion import GAUSSIAN, SHAPES, Curve, Density, gaussian_moment
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.curves import code_of, curve_of, curves
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload import AnalogPayload, DigitalPayload, HybridPayload
from airnet_sdr.models.payload.tensors import TensorPlan, centre_and_scale, normalisation


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
        density, curve = Density(SHAPES[rng.integers(len(SHAPES))]), curve_of(int(rng.integers(len(curves()) + 1)))
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
    assert len(data) < 45 and Manifest.from_bytes(data + bytes(9)) == manifest


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


def test_an_unknown_accuracy_stays_unknown():
    assert Manifest.from_bytes(manifest_of("a", "b", None, ()).to_bytes()).card.accuracy is None


@pytest.mark.parametrize("accuracy", [0.0, 0.925, 0.9999, 1.0])
def test_accuracy_is_exact_to_a_hundred_thousandth(accuracy):
    back = Manifest.from_bytes(manifest_of("a", "b", accuracy, ()).to_bytes())
    assert back.card.accuracy == pytest.approx(accuracy, abs=1e-5)


def test_twelve_tensors_take_less_than_200_bytes():
    assert len(random_manifest(np.random.default_rng(2)).to_bytes()) == 123


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


@pytest.mark.parametrize("values", [[np.nan, 1.0], [-np.inf, 1.0]])
def test_weights_that_are_not_finite_are_an_input_error(values):
    with pytest.raises(InputError):
        centre_and_scale(np.array(values, np.float32))


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


def test_centre_and_scale_are_as_the_manifest_carries_them():
    rng = np.random.default_rng(4)
    for _ in range(200):
        weights = (rng.standard_normal(500) * 10 ** rng.uniform(-5, 2) + 10 ** rng.uniform(-3, 1)).astype(np.float32)
        mean, scale = centre_and_scale(weights)
        manifest = manifest_of("a", "b", None, (TensorPlan(mean, scale, 1, 0.0),))
        (back,) = tensors_of(Manifest.from_bytes(manifest.to_bytes()))
        assert (back.mean, back.scale) == (mean, scale)
        assert abs(mean - weights.mean()) <= 2**-7 * abs(weights.mean())
        power = np.mean((weights.astype(np.float64) - mean) ** 2) / scale**2  # of the symbols
        assert 10 * abs(np.log10(power)) < 0.012  # half a step of 1/256 octave in amplitude


def test_a_constant_tensor_of_a_short_float_has_scale_zero():
    assert centre_and_scale(np.full(10, 1.5, np.float32)) == (1.5, 0.0)
    assert centre_and_scale(np.zeros(3, np.float32)) == (0.0, 0.0)


def test_the_scale_is_right_far_from_zero_and_over_many_weights():
    """A mean of 1000 deviations; the scale in its steps of 1/256 octave."""
    weights = (1000 + np.random.default_rng(3).standard_normal(700_001)).astype(np.float32)
    mean, scale = centre_and_scale(weights)
    assert mean == pytest.approx(1000, rel=2**-8)
    assert scale == pytest.approx(np.sqrt(1 + (1000 - mean) ** 2), rel=2 ** (1 / 256) - 1)


def test_curves_have_codes_and_no_others_are_taken():
    assert [code_of(curve_of(code)) for code in range(len(curves()) + 1)] == list(range(len(curves()) + 1))
    with pytest.raises(LinkError, match="curve"):
        curve_of(len(curves()) + 1)
    with pytest.raises(LinkError, match="density"):
        Manifest.from_bytes(plan().to_bytes()[:-2] + bytes([len(SHAPES), 0]))


@pytest.mark.parametrize("curve", [None, Curve(2.0, 0.6, 1.0), Curve(None, 1.0, 1.0, (3.0,))])
def test_normalised_weights_have_the_moment_that_decides_the_power(curve):
    weights = (0.5 + 0.1 * np.random.default_rng(5).laplace(size=200_000)).astype(np.float32)
    mean, scale, density = normalisation(weights, curve)
    order = 2.0 if curve is None else curve.order
    moment = np.mean(np.abs((weights.astype(np.float64) - mean) / scale) ** order)
    assert moment == pytest.approx(gaussian_moment(order), rel=0.003) and density.shape == pytest.approx(1, rel=0.1)
    assert normalisation(np.full(9, 2.0, np.float32), curve) == (2.0, 0.0, GAUSSIAN)
