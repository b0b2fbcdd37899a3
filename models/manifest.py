"""The manifest: all that the receiver must be told besides the symbols, sent in band and coded.

Tensor names and shapes follow from the architecture's code; the manifest names the architecture and says, tensor by
tensor, how the weights were centred, scaled and protected. Layout, big endian: length-prefixed model and data set
names; number of widths (8 bits, 0 where they are the architecture's own) and each width (16 bits); accuracy (16 bits,
65535 unknown); number of tensors (16 bits); for each tensor the mean (upper 16 bits of a float32), the scale (16-bit
code of log2, 0 for a constant tensor), copies (8 bits), power (8 bits, quarter dB), shape of the weights' density (8
bits, place in `dsp.expansion.SHAPES`) and curve (8 bits, `models.curves`, 0 for none). A digital payload has 65535 for
the number of tensors, and then its bytes and symbols (32 bits each) and the coded bits a symbol (8 bits). A hybrid has
65534 there, then the same, then the number of tensors and the plan of each, which is that of what quantisation left.
"""

import dataclasses
import re
import struct
from dataclasses import astuple

import numpy as np

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.expansion import GAUSSIAN, LINE, SHAPES, Curve, Density, absolute_scale, fit_shape
from airnet_sdr.dsp.symbols import sums
from airnet_sdr.dsp.uep import POWER_STEP_DB
from airnet_sdr.models.curves import code_of, curve_of
from airnet_sdr.models.digital.channel_code import CodedPayload

PART = 1 << 18  # weights summed in a call
_SCALE_STEPS_PER_OCTAVE = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SHAPE_WEIGHTS = 1 << 16  # that a shape is fitted to at most
_TENSOR = struct.Struct(">HHBbBB")
_CODED, _HYBRID = 65535, 65534  # tensors
_PAYLOAD = struct.Struct(">IIB")


@dataclasses.dataclass(frozen=True)
class TensorPlan:
    """How one tensor travels: value = mean + √2·scale·symbol part; each symbol ``copies`` times at ``power_db``.

    `curve` is what the symbols are expanded by, None for nothing; `density` that of (value - mean)/scale, which a
    Bayesian receiver makes use of.
    """

    mean: float
    scale: float
    copies: int
    power_db: float
    density: Density = GAUSSIAN
    curve: Curve | None = None

    @property
    def uses(self) -> int:
        """Payload symbols of a pair of weights."""
        return self.copies * (1 if self.curve is None else self.curve.dims)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Architecture, evaluation data set, accuracy as sent (None unknown) and the plan of every tensor in order.

    `widths` are those that `models.nets.build` takes, () for the architecture's own. A network that travels digitally
    has `coded`, and no plans of its tensors. A hybrid has both: after the coded symbols come, analog, those of what
    quantisation took from each tensor, and the receiver adds them.
    """

    model: str
    dataset: str
    accuracy: float | None
    tensors: tuple[TensorPlan, ...]
    widths: tuple[int, ...] = ()
    coded: CodedPayload | None = None

    @property
    def scheme(self) -> str:
        """How the weights travel: analog, digital or hybrid."""
        return "analog" if self.coded is None else "hybrid" if self.tensors else "digital"

    def to_bytes(self) -> bytes:
        """Encode; InputError when a name or value does not fit."""
        names = _name_bytes(self.model) + _name_bytes(self.dataset)
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise InputError(f"manifest: accuracy must be 0 to 1; got {self.accuracy}")
        if len(self.tensors) >= _HYBRID:
            raise InputError(f"manifest: tensors must be fewer than {_HYBRID}; got {len(self.tensors)}")
        if len(self.widths) > 255 or not all(1 <= width <= 65535 for width in self.widths):
            raise InputError(f"manifest: widths must be at most 255 numbers from 1 to 65535; got {list(self.widths)}")
        widths = struct.pack(f">B{len(self.widths)}H", len(self.widths), *self.widths)
        accuracy = 65535 if self.accuracy is None else round(self.accuracy * 65534)
        head = names + widths + struct.pack(">H", accuracy)
        if self.coded is not None:
            head += struct.pack(">H", _HYBRID if self.tensors else _CODED) + _PAYLOAD.pack(*astuple(self.coded))
            if not self.tensors:
                return head
        return head + struct.pack(">H", len(self.tensors)) + b"".join(_tensor_bytes(t) for t in self.tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Decode what came off the air (zero padding may follow); LinkError when it makes no sense."""
        try:
            model, data = _split_name(data)
            dataset, data = _split_name(data)
            num_widths, data = data[0], data[1:]
            widths = struct.unpack_from(f">{num_widths}H", data)
            data = data[2 * num_widths :]
            accuracy, count = struct.unpack_from(">HH", data)
            coded, data = None, data[4:]
            if count in (_CODED, _HYBRID):
                coded, data = CodedPayload(*_PAYLOAD.unpack_from(data)), data[_PAYLOAD.size :]
                count = 0 if count == _CODED else struct.unpack_from(">H", data)[0]
                data = data[2:]  # of a hybrid
            rows = [_TENSOR.unpack_from(data, i * _TENSOR.size) for i in range(count)]
        except (struct.error, IndexError, UnicodeDecodeError, InputError) as error:
            raise LinkError("manifest: CRC right but content wrong; the sender is another version") from error
        tensors = tuple(
            TensorPlan(
                _mean_value(mean), _scale_value(scale), copies, power * POWER_STEP_DB, _density(shape), curve_of(curve)
            )
            for mean, scale, copies, power, shape, curve in rows
        )
        if not all(t.copies >= 1 and np.isfinite(t.mean) for t in tensors):
            raise LinkError("manifest: a tensor has no copies or no finite mean; the sender is another version")
        if 0 in widths:
            raise LinkError("manifest: a layer has no channels; the sender is another version")
        return cls(model, dataset, None if accuracy == 65535 else accuracy / 65534, tensors, widths, coded)


def check_name(name: str) -> None:
    """Raise InputError for a name that cannot travel."""
    if not _NAME.fullmatch(name):
        raise InputError(f"manifest: a name is 1 to 63 letters, digits, '_', '.' or '-'; got {name!r}")


def centre_and_scale(weights: np.ndarray, run=map) -> tuple[float, float]:
    """Mean and RMS about it of finite weights (n,), as the manifest carries them: receiver and sender agree exactly.

    ``run`` maps a function over parts of the weights, `map` or an executor's.
    """
    reference = float(weights[0])  # sums of the offsets from it lose nothing where the mean is far from 0
    parts = (weights[first : first + PART] for first in range(0, weights.size, PART))
    total, squares = np.sum(list(run(lambda part: sums(part, reference), parts)), axis=0) / weights.size
    if not np.isfinite(total):
        raise InputError(f"weights must be finite; got {np.sum(~np.isfinite(weights))} others; check the training")
    mean = _mean_value(_mean_code(reference + total))
    offset = mean - reference
    rms = np.sqrt(max(0.0, squares - 2 * offset * total + offset * offset))
    return mean, _scale_value(_scale_code(rms))


def normalisation(weights: np.ndarray, curve: Curve | None = None, run=map) -> tuple[float, float, Density]:
    """Mean, scale and density of finite weights (n,), as the manifest carries them.

    The scale is the RMS about the mean, or, along a curve whose power another moment decides, that moment's.
    """
    mean, scale = centre_and_scale(weights, run)
    if scale == 0:
        return mean, scale, GAUSSIAN
    if curve is not None and curve.order != LINE.order:
        scale = _scale_value(_scale_code(absolute_scale(weights, mean, curve.order)))
    part = weights[:: -(-weights.size // SHAPE_WEIGHTS)]
    return mean, scale, Density(fit_shape((part - np.float32(mean)) / np.float32(scale)))


def _density(code: int) -> Density:
    if code >= len(SHAPES):
        raise LinkError(f"manifest: density {code}, there are {len(SHAPES)}; the sender is another version")
    return Density(SHAPES[code])


def _tensor_bytes(plan: TensorPlan) -> bytes:
    power = plan.power_db / POWER_STEP_DB
    if not (1 <= plan.copies <= 255 and -128 <= power <= 127):
        raise InputError(
            f"manifest: copies must be 1 to 255 and power -32 to 31.75 dB; got {plan.copies} and {plan.power_db} dB"
        )
    if not (np.isfinite(plan.mean) and 0 <= plan.scale < np.inf):
        raise InputError(f"manifest: mean and scale must be finite; got {plan.mean}, {plan.scale}; check the weights")
    return _TENSOR.pack(
        _mean_code(plan.mean),
        _scale_code(plan.scale),
        plan.copies,
        round(power),
        SHAPES.index(plan.density.shape),
        code_of(plan.curve),
    )


def _mean_code(mean: float) -> int:
    return int(np.float32(mean).view(np.uint32) >> 16)


def _mean_value(code: int) -> float:
    return float(np.uint32(code << 16).view(np.float32))


def _scale_code(scale: float) -> int:
    if scale == 0:
        return 0
    return int(np.clip(round(np.log2(scale) * _SCALE_STEPS_PER_OCTAVE) + 32768, 1, 65535))


def _scale_value(code: int) -> float:
    return 0.0 if code == 0 else float(2.0 ** ((code - 32768) / _SCALE_STEPS_PER_OCTAVE))


def _name_bytes(name: str) -> bytes:
    check_name(name)
    return bytes([len(name)]) + name.encode()


def _split_name(data: bytes) -> tuple[str, bytes]:
    length = data[0]
    name = data[1 : 1 + length].decode("ascii")
    if not _NAME.fullmatch(name):
        raise struct.error("name")
    return name, data[1 + length :]
