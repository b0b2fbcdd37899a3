"""A network's state dict to what is sent, and back.

A state dict has three kinds of entries:

- floating-point and complex tensors, parameters and buffers: the *weights*, sent as real numbers, a vector a tensor, in
  the order of the state dict. A complex tensor is its real and imaginary parts in turn. Tied tensors are sent once,
  tensors without elements not at all;
- running means and variances of batch norm: the *statistics* (`models.batch_norm`);
- exact buffers, integer and boolean ones and those that the architecture's code determines (`models.fixed`): sent
  exactly where they differ from those of a freshly built network (`exact_bytes`).

Names and shapes follow from the architecture's code. Whatever else a state dict holds cannot be sent, and is named.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.host.memory import LEAST_BYTES, give_back
from airnet_sdr.models.batch_norm import statistics_of
from airnet_sdr.models.fixed import fixed_of, resolved

REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
INTEGER = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (*REAL, *COMPLEX)}
_INDEX = struct.Struct(">H")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that is sent: its name in the state dict, its shape, its number of real weights, and the names of
    tensors that are tied to it."""

    name: str
    shape: tuple[int, ...]
    numel: int
    tied: tuple[str, ...] = ()


def tensor_specs(module: nn.Module) -> list[TensorSpec]:
    """Each tensor that is sent, in the order sent; InputError if the state dict has entries that cannot be sent, or
    none to send."""
    tied: dict[str, list[str]] = {}
    for name, first in _names(module).items():
        tied.setdefault(first, []).append(name)
    specs = [
        TensorSpec(name, tuple(value.shape), value.numel() * (2 if value.is_complex() else 1), tuple(tied[name][1:]))
        for name, value in _sent(module)
    ]
    if not specs:
        raise InputError("the network has no weights; give one that has some")
    return specs


def tensors_of(module: nn.Module, copy: bool = True) -> dict[str, np.ndarray]:
    """Copies of the tensors that are sent, float32 or complex64, by name in the order sent; without ``copy`` those of
    these dtypes share the module's memory."""
    return {name: to_numpy(value, copy) for name, value in _sent(module)}


def exact_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the exact buffers by name, in the order of the state dict; bfloat16 as float32."""
    state, first, exact = module.state_dict(), _names(module), exact_names(module)
    return {name: exact_numpy(state[name]) for name in state if name in exact and first[name] == name}


def exact_names(module: nn.Module) -> set[str]:
    """Names of the exact buffers, tied ones each."""
    fixed = fixed_of(module)
    return {name for name, value in module.state_dict().items() if value.dtype in INTEGER or name in fixed}


def exact_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy with all its bits, in C order; bfloat16, which NumPy has not, as float32."""
    dense = resolved(tensor.detach().cpu())
    return (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy().copy(order="C")


def to_numpy(tensor: torch.Tensor, copy: bool = True) -> np.ndarray:
    """A copy of a tensor as float32 or complex64, in C order; without ``copy`` the tensor's own memory if possible."""
    wanted = torch.complex64 if tensor.is_complex() else torch.float32
    array = resolved(tensor.detach().cpu()).to(wanted).numpy()
    return array.copy(order="C") if copy else array


def to_vectors(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Each tensor as a float32 vector (numel,), in C order; a complex one as real and imaginary parts in turn."""
    return [real_view(tensor).reshape(-1) for tensor in tensors.values()]


def real_view(tensor: np.ndarray) -> np.ndarray:
    """The tensor as float32 in C order; of a complex one the real and imaginary parts are a last axis of 2."""
    if np.iscomplexobj(tensor):
        return np.ascontiguousarray(tensor, np.complex64)[..., None].view(np.float32)
    return np.asarray(tensor, np.float32, order="C")


def hollow(module: nn.Module) -> nn.Module:
    """The module, its memory for the tensors that are sent given back until `load_vectors` brings their numbers.

    Until then it has names, shapes and buffers, but cannot compute: for a receiver, which would have a large network
    once at random and once as it arrived.
    """
    sent, first = _sent(module), _names(module)
    distinct = (value for name, value in module.state_dict().items() if first[name] == name)
    users = Counter(value.untyped_storage().data_ptr() for value in distinct if value.layout is torch.strided)
    for _, value in sent:
        storage = value.untyped_storage()
        if storage.resizable() and storage.nbytes() == value.nbytes and users[storage.data_ptr()] == 1:  # its own
            storage.resize_(0)
    return module


def load_vectors(module: nn.Module, vectors: Iterable[np.ndarray], keep: bool = True) -> nn.Module:
    """Load vectors (numel,) into `module`, in place, and return it. Raises InputError if they do not fit.

    Without ``keep`` the list of the vectors is emptied on the way, so that no number is twice in memory.
    """
    specs, waiting = tensor_specs(module), vectors if isinstance(vectors, list) and not keep else list(vectors)
    got, wanted = [len(vector) for vector in waiting], [spec.numel for spec in specs]
    if got != wanted:
        raise InputError(f"the weights do not fit the architecture: got tensors of {got}, it has {wanted}")
    state = module.state_dict()  # in the module's own memory
    waiting.reverse()
    freed = 0
    for spec in specs:
        value, values = state[spec.name], np.require(waiting.pop(), np.float32, ["C", "W"])
        if not value.untyped_storage().nbytes():
            value.untyped_storage().resize_(value.nbytes)
        value.copy_(torch.from_numpy(values.view(np.complex64) if value.is_complex() else values).reshape(spec.shape))
        freed += 0 if keep else value.nbytes
        if freed >= LEAST_BYTES:
            give_back(freed)
            freed = 0
    # once more by torch, for a network that does something when it is loaded
    module.load_state_dict({spec.name: state[spec.name] for spec in specs}, strict=False)
    return module


def to_exact(tensor: torch.Tensor, like: torch.Tensor) -> np.ndarray:
    """An exact buffer in the dtype of ``like``, the freshly built one: that itself, where only the dtype rounds it."""
    if tensor.dtype != like.dtype and torch.equal(like.to(tensor.dtype), tensor):
        return exact_numpy(like)
    return exact_numpy(tensor.to(like.dtype))


def named_floats(module: nn.Module) -> list[str]:
    """Names of all that has a floating-point or complex dtype of its own, in the order of dtypes in a manifest: the
    tensors that are sent, the statistics, and the fixed buffers."""
    weights = [spec.name for spec in tensor_specs(module)]
    return [*weights, *statistics_of(module), *sorted(fixed_of(module))]


def load_exact(module: nn.Module, exact: dict[str, np.ndarray]) -> nn.Module:
    """Load exact buffers by name, in place; the others stay."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in exact.items()}, strict=False)
    return module


def exact_bytes(exact: dict[str, np.ndarray], fresh: dict[str, np.ndarray]) -> bytes:
    """The buffers that differ from the `fresh` ones: for each its index (16 bits) and its bytes, compressed; b"" if
    none differs. The inverse is `read_exact`."""
    changed = b"".join(
        _INDEX.pack(i) + exact[name].tobytes()
        for i, (name, value) in enumerate(fresh.items())
        if name in exact and exact[name].tobytes() != value.tobytes()
    )
    return zlib.compress(changed, 9) if changed else b""


def read_exact(data: bytes, fresh: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All buffers of the sender: those in ``data`` in the place of `fresh` ones; LinkError for bytes that do not fit.

    The work is bounded by the size of the buffers.
    """
    result, names = dict(fresh), list(fresh)
    most = sum(value.nbytes + _INDEX.size for value in fresh.values())
    try:
        inflate = zlib.decompressobj()
        changed = inflate.decompress(data, most + 1) if data else b""
        at, last = 0, -1
        while at < len(changed):
            (index,) = _INDEX.unpack_from(changed, at)
            if index <= last:
                raise ValueError(f"buffer {index} after {last}")
            like, at, last = fresh[names[index]], at + _INDEX.size, index
            found = np.frombuffer(changed[at : at + like.nbytes], like.dtype)
            result[names[index]], at = found.reshape(like.shape).copy(), at + like.nbytes
    except (zlib.error, struct.error, IndexError, ValueError) as error:
        raise LinkError(
            f"the sender's exact buffers do not fit the architecture here ({error}); use the sender's version"
        ) from error
    return result


def checksum(arrays: dict[str, np.ndarray]) -> int:
    """CRC-32 over the numbers of all exact buffers, or of other tensors, 0 for none."""
    crc = 0
    for value in arrays.values():
        crc = zlib.crc32(value.tobytes(), crc)
    return crc


def strict_state(module: nn.Module, dtypes: dict[str, str] | None = None) -> dict[str, torch.Tensor]:
    """The whole state dict, which `load_state_dict(strict=True)` takes, tied tensors each; ``dtypes`` by name where
    they are not those of the module; complex128, which safetensors has not, as complex64. Each tensor is dense, and the
    module's own or a copy."""
    first, state, taken = _names(module), {}, set()
    for name, value in module.state_dict().items():
        dtype = (dtypes or {}).get(first.get(name, name))
        dense = resolved(value.detach().cpu()).contiguous()
        dense = dense if dtype is None else dense.to(DTYPES[dtype])
        dense = dense.to(torch.complex64) if dense.dtype == torch.complex128 else dense
        place = dense.untyped_storage().data_ptr()
        state[name] = dense.clone() if place in taken else dense
        taken.add(place)
    return state


def _names(module: nn.Module) -> dict[str, str]:
    """For every name in the state dict the first name of the same tensor."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    objects = {name: id(value) for name, value in named}
    seen: dict[int, str] = {}
    return {name: seen.setdefault(objects.get(name, id(name)), name) for name in module.state_dict()}


def _sent(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    state, first = module.state_dict(), _names(module)
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.dtype not in (*REAL, *COMPLEX, *INTEGER):
            what = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise InputError(f"{name} is {what}, which cannot be sent; remove it from the network's state dict")
        if _is_expanded(value):
            raise InputError(f"{name} is an expanded tensor, whose numbers share memory; make it contiguous()")
    beside = set(statistics_of(module)) | exact_names(module)
    sent = [name for name, value in state.items() if name not in beside and first[name] == name and value.numel()]
    return [(name, state[name]) for name in sent]


def _is_expanded(tensor: torch.Tensor) -> bool:
    """Whether numbers of the tensor share memory, as `Tensor.expand` makes them, so that torch cannot load them."""
    if tensor.layout is not torch.strided:
        return False
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
