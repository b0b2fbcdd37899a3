"""Foreign weights: a pickle or a pretrained network of timm, read in a process of its own and given on as safetensors.

A pickle is read with `weights_only=True`, which builds tensors, containers and numbers and nothing else, and in a
process with limits of memory and time, as a file may claim to be larger than it is or take without end. What arrives
here is a safetensors file of all tensors, by their names joined with dots: `{"state_dict": {"a.weight": …}}` becomes
`state_dict.a.weight`.
"""

import multiprocessing
import os
import re
import resource
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from airnet_sdr.dsp.errors import InputError, one_line

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
TIMM = "timm:"
TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
MEMORY_FACTOR, MEMORY_MORE = (
    4,
    1 << 30,
)  # address space beside the libraries, in bytes: a multiple of the file, and more
SECONDS, BYTES_PER_SECOND = 120, 5 << 20  # of processor time: some, and more for large files
MEMORY_OF_TIMM = 32 << 30  # of a network whose size is not known beforehand
SECONDS_OF_TIMM = 3600
MOST_DEPTH, MOST_TENSORS = 8, 100_000
TRAINERS = re.compile(r"((lr|amp|grad)_)?(optimizer|optim|scheduler|scaler)s?(_states?|_state_dict)?")


def is_timm(source: str) -> bool:
    """Whether the source is a pretrained network of timm, as timm:resnet18.a1_in1k."""
    return source.startswith(TIMM)


def is_trainers(name: str) -> bool:
    """Whether a container of this name is what trainers store beside the weights, as the state of an optimiser."""
    return TRAINERS.fullmatch(name.lower()) is not None


def check_source(source: str) -> None:
    """InputError for what is neither a file that can be read nor timm:NAME."""
    if is_timm(source):
        if not TIMM_NAME.fullmatch(source.removeprefix(TIMM)):
            raise InputError(f"timm:NAME is the name of a network, as timm:resnet18.a1_in1k; got {source!r}")
        return
    path = Path(source)
    if path.suffix.lower() not in (*PICKLES, ".safetensors"):
        raise InputError(f"weights are {', '.join(PICKLES)}, .safetensors or timm:NAME; got {source!r}")
    if not path.is_file():
        raise InputError(f"no file {source!r}; give the weights, or timm:NAME")


def convert(source: str, target: Path) -> None:
    """Write all tensors of the source into the safetensors file ``target``, in a process of its own.

    Raises InputError if it cannot be read, is no weights, or takes more memory or time than its size explains.
    """
    check_source(source)
    size = 0 if is_timm(source) else Path(source).stat().st_size
    memory = MEMORY_OF_TIMM if is_timm(source) else MEMORY_FACTOR * size + MEMORY_MORE
    seconds = SECONDS_OF_TIMM if is_timm(source) else SECONDS + size // BYTES_PER_SECOND
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_convert, args=(source, os.fspath(target), memory, seconds, sending), daemon=True)
    process.start()
    sending.close()
    try:
        told = receiving.recv() if receiving.poll(2 * seconds) else None
    except EOFError:
        told = None
    finally:
        process.join(1)
        process.kill()
    if told is None:
        raise InputError(
            f"{source} cannot be read: its process took more than {memory >> 20} MiB or {seconds} s; is the file whole?"
        )
    if told:
        raise InputError(f"{source} cannot be read: {told}")


def _convert(source: str, target: str, memory: int, seconds: int, answer: Connection) -> None:
    """The process: sends "" when the file is written, otherwise what is wrong in one line."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # whatever library reads a pickle
    import torch

    try:
        pretrained = _timm_network(source.removeprefix(TIMM)) if is_timm(source) else None
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        _limit(resource.RLIMIT_AS, used + memory)
        _limit(resource.RLIMIT_CPU, seconds)
        if pretrained is not None:
            content = pretrained.state_dict()
        else:
            content = torch.load(source, map_location="cpu", weights_only=True)
        found = dict(_tensors(content))
        if not found:
            raise ValueError("it has no tensors")
        _write(found, target)
        answer.send("")
    except MemoryError:
        answer.send(f"it takes more than {memory >> 20} MiB")
    except Exception as error:  # foreign files and libraries may raise anything
        answer.send(_reason(error))


def _limit(what: int, wanted: int) -> None:
    """Limit this process, to less where it may have less already."""
    hard = resource.getrlimit(what)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (limit, limit))


def _reason(error: Exception) -> str:
    """The first sentence of an error, in one line."""
    text = one_line(error)
    if "weights_only" in text or "Weights only" in text:
        unknown = re.search(r"GLOBAL ([\w.]+)", text)
        what = f" ({unknown[1]})" if unknown else ""
        return f"it has more than weights{what}; save network.state_dict() instead"
    if "DefaultCPUAllocator" in text or "bad alloc" in text or "memory" in text:
        return "it takes more memory than its size explains"
    return f"{type(error).__name__}: {text[:300]}"


def _tensors(content, name: str = "", depth: int = 0) -> Iterator:
    """Names and tensors of nested dictionaries. ValueError for more than any network has."""
    import torch

    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, Mapping) and depth < MOST_DEPTH:
        if len(content) > MOST_TENSORS:
            raise ValueError(f"it has {len(content)} entries")
        for key, each in content.items():
            if isinstance(key, str) and not (isinstance(each, Mapping) and is_trainers(key)):
                yield from _tensors(each, f"{name}.{key}" if name else key, depth + 1)


def _write(found: dict, target: str) -> None:
    """Write tensors dense and apart: what is shared, tied or a view is written as often as it has a name."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}, target)


def _timm_network(name: str):
    """A pretrained network of timm, downloaded. Its own errors for an unknown name or a failed download."""
    timm = import_timm()
    if not timm.is_model(name.split(".", maxsplit=1)[0]):
        raise ValueError(f"timm {timm.__version__} has no network {name.split('.', maxsplit=1)[0]!r}")
    return timm.create_model(name, pretrained=True)


def import_timm() -> ModuleType:
    """The module timm. InputError where it, or the torchvision that it needs, cannot be imported."""
    declare_torchvision_operators()
    try:
        import timm
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"timm cannot be imported ({one_line(error)}); pip install timm, and the torchvision that "
            "belongs to this torch"
        ) from error
    return timm


def declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch without CUDA.

    Package indexes have torchvision's wheel for CUDA, whose library of operators does not load beside a torch without
    it. The operators are for detection; but while they are not declared, the import of any network fails. Where the
    library loads, its declarations stand.
    """
    import importlib.util

    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or torch.version.cuda is not None:
        return
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
            return
        except OSError:
            continue
    if not hasattr(torch.ops.torchvision, "nms"):
        declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(declared)


_DECLARED: list = []  # a library's declarations last as long as the object
