"""The receiver: samples -> frames -> combined symbols -> weights -> network -> accuracy and report."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
from torch import nn

from airnet_sdr.dsp import losses
from airnet_sdr.dsp.errors import InputError, LinkError, NothingReceivedError, RadioError
from airnet_sdr.dsp.frame import VERSION
from airnet_sdr.dsp.host.options import config_from, split_options
from airnet_sdr.dsp.radio import RadioConfig, Source, open_source
from airnet_sdr.dsp.radio.record import RecordedSource, recording
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batch_norm import measured_statistics, statistics_of
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.ensemble import extract_widths
from airnet_sdr.models.evaluate import accuracy, recalibrate_batch_norm
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs, tensors_of, to_vectors
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.rx.config import ListenConfig, OutputConfig, ReceiveConfig
from airnet_sdr.rx.listen import Listener, listen
from airnet_sdr.rx.report import Rebuilt, make_report, write_json
from airnet_sdr.rx.samples import ArraySource

MAX_THREADS = 4  # for the receiver's signal processing


@dataclasses.dataclass(frozen=True)
class Reception:
    """A received network: the module, the receiver's report, the burst, and the model card."""

    network: nn.Module
    report: dict
    burst: BurstCombiner
    card: ModelCard

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy on the evaluation data, 0 to 1; None if not evaluated."""
        return self.report["accuracy"]

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as a checkpoint, with the measured accuracy, otherwise that of the model card."""
        measured = self.report["batch_norm_inputs"] is not None
        checkpoint = Checkpoint(
            self.card.architecture,
            self.card.dataset,
            self.card.accuracy if self.accuracy is None else self.accuracy,
            tensors_of(self.network),
            {"received_over": self.report["radio"]["address"]},
            self.card.widths,
            measured_statistics(self.network) if measured else {},
        )
        checkpoints.save(path, checkpoint)

    def draw(self, path: str | os.PathLike) -> None:
        """Draw constellation, channel, error of each layer and accuracy to a PNG file."""
        from airnet_sdr.rx.picture import draw  # half a second to import, rarely needed

        draw(path, self.report, self.burst)

    def write(self, files: OutputConfig) -> None:
        """Write the configured files."""
        if files.save is not None:
            self.save(files.save)
        if files.report is not None:
            write_json(files.report, self.report)
        if files.picture is not None:
            self.draw(files.picture)


def receive(samples, config: ReceiveConfig | None = None, **options) -> Reception:
    """Receive one network: find its frames, combine them, rebuild the network and evaluate it.

    samples : complex64 (n,), an iterable of such blocks, or a radio address
    options : fields of `ReceiveConfig`, put over ``config``, of `ListenConfig` and of `RadioConfig`, among which
        ``rate_hz`` and ``freq_hz`` say what the samples are

    Raises NothingReceivedError if no network was received, InputError for an invalid option, RadioError if the radio
    fails.

    >>> from airnet_sdr.sim.loopback import transmit
    >>> from airnet_sdr.tx.sender import make_burst
    >>> samples = transmit(make_burst("fashion", snr_db=5, seed=1), snr_db=5, seed=1)
    >>> result = receive(samples, evaluate="none")
    >>> result.report["frames"]["lost"], result.accuracy
    (0, None)
    """
    receiving, listening, radio = split_options(options, ReceiveConfig, ListenConfig, RadioConfig)
    config = dataclasses.replace(config or ReceiveConfig(), **receiving)
    listen_config, radio_config = ListenConfig(**listening), config_from(RadioConfig, radio)
    if listen_config.follow:
        raise InputError("`follow` reports many receptions; use airnet_sdr.rx.receiver.receive_from")
    address = samples if isinstance(samples, str) else None
    source = ArraySource(samples, radio_config) if address is None else open_source(address, radio_config)
    return next(receive_from(source, config, listen_config))


def receive_from(
    source: Source,
    config: ReceiveConfig = ReceiveConfig(),
    listening: ListenConfig = ListenConfig(),
    record: str | None = None,
    on_refused: Callable[[LinkError], None] = lambda error: None,
) -> Iterator[Reception]:
    """Open the source and listen: one reception, or, with ``follow``, one at each new cycle or model.

    A burst that cannot be rebuilt is skipped, and listening continues. If no burst was rebuilt at the end, the error
    of the best one is raised.

    record : path of a recording of the received samples, with an annotation per frame
    on_refused : called with the error of each skipped burst

    Raises as `receive`.
    """
    check(config)
    Listener()  # loads libraries before the radio opens: loading must not be interrupted
    with source, recording(record, source) as written:
        started = time.perf_counter()
        listener = Listener(
            max_cfo=listening.max_cfo(source.rate_hz, MAX_CFO),
            num_threads=min(os.cpu_count() or 1, MAX_THREADS),
            max_bytes=listening.memory_mb << 20,
        )
        if written:
            source = RecordedSource(source, written)  # type: ignore[assignment] # it passes all of a source on
            listener.on_frame = lambda frame: written.annotate(*frame.annotation(listener.receiver.fmt))
        refusals: list[LinkError] = []
        num_rebuilt = 0
        for burst in listen(source, listener, listening):
            try:
                reception = evaluate_burst(burst, listener, config, source.describe(), started)
            except RadioError:
                raise
            except LinkError as error:
                burst.refused = not isinstance(error, NothingReceivedError)  # another cycle may make it decodable
                refusals.append(error)
                on_refused(error)
                continue
            num_rebuilt += 1
            yield reception
            if not listening.follow:
                return
        if not num_rebuilt:
            raise refusals[0] if refusals else NothingReceivedError(_why_nothing(None, listener))


def check(config: ReceiveConfig) -> None:
    """Check before listening what would otherwise fail after the reception; InputError."""
    resolve_architecture(config.architecture)
    if config.evaluate not in (None, "none", *LOADERS):
        raise InputError(f"no data set {config.evaluate!r}; `evaluate` must be none or one of: {', '.join(LOADERS)}")
    if config.truth is not None:
        checkpoints.load(config.truth, resolve_architecture(config.architecture))


def evaluate_burst(
    burst: BurstCombiner | None, listener: Listener, config: ReceiveConfig, radio: dict, started: float
) -> Reception:
    """Rebuild and evaluate one burst, and make its report; NothingReceivedError if it has no decodable network.

    radio : the source's description, with its warnings
    started : `time.perf_counter` when listening began
    """
    manifest = None if burst is None else burst.manifest(last=True)
    if manifest is None:
        raise NothingReceivedError(_why_nothing(burst, listener))
    rebuilding = time.perf_counter()
    card = manifest.card
    module = build(card.architecture, card.widths)
    specs = tensor_specs(module)
    weights = rebuild(burst, manifest, [spec.numel for spec in specs], config.estimator)
    rebuilt = Rebuilt(burst, manifest, specs, weights, _truth(config, card))
    seconds_dsp = listener.seconds + time.perf_counter() - rebuilding
    load_vectors(module, weights.vectors)
    score, num_inputs = _evaluate(module, config.evaluate or card.dataset, config.data_dir)
    warnings = [*radio.get("warnings", []), *_warnings(listener)]
    if statistics_of(module) and not num_inputs:
        warnings.append("batch norm statistics are not measured, as there is no evaluation data")
    samples = listener.receiver.num_samples
    timing = {
        "seconds_total": time.perf_counter() - started,
        "seconds_dsp": seconds_dsp,
        "samples": samples,
        "samples_per_second": samples / seconds_dsp if seconds_dsp > 0 else None,
    }
    about = {name: value for name, value in radio.items() if name != "warnings"}
    about["lost_samples"] = losses.num_lost(listener.receiver.losses)
    report = make_report(rebuilt, score, about, timing, warnings)
    report["batch_norm_inputs"] = num_inputs or None
    return Reception(module, report, burst, card)


def _evaluate(module: nn.Module, dataset: str, data_dir: str | None) -> tuple[float | None, int]:
    """Accuracy on the test images of the data set, None for "none", and the number of batch norm inputs."""
    if dataset == "none":
        return None, 0
    if dataset not in LOADERS:
        raise InputError(f"the manifest names the data set {dataset!r}, unknown here; set `evaluate` to none")
    num_inputs = recalibrate_batch_norm(module, dataset, data_dir)
    return accuracy(module, dataset, data_dir), num_inputs


def _truth(config: ReceiveConfig, card: ModelCard) -> list[np.ndarray] | None:
    """The weights as sent, one vector per tensor; InputError if ``truth`` is another network."""
    if config.truth is None:
        return None
    checkpoint = checkpoints.load(config.truth, resolve_architecture(config.architecture))
    checkpoint = extract_widths(checkpoint, card.widths)
    if (checkpoint.arch, checkpoint.widths) != (card.architecture, card.widths):
        raise InputError(
            f"`truth` is a {_with_widths(checkpoint.arch, checkpoint.widths)}, the received network is a "
            f"{_with_widths(card.architecture, card.widths)}; give the model that was sent"
        )
    return to_vectors(checkpoint.tensors)


def _with_widths(name: str, widths: tuple[int, ...]) -> str:
    return name + (f" of widths {', '.join(map(str, widths))}" if widths else "")


def _why_nothing(burst, listener) -> str:
    samples = listener.receiver.num_samples
    if listener.receiver.other_versions:
        versions = ", ".join(map(str, sorted(listener.receiver.other_versions)))
        return (
            f"frames of format version {versions} in {samples} samples, this program speaks {VERSION}; "
            "use the sender's version"
        )
    if burst is None:
        return f"no frame in {samples} samples; check carrier, rate and gain, and that the sender is on"
    return (
        f"{len(burst.receptions)} of {burst.header.num_frames} frames in {samples} samples, too few or too weak for "
        "the manifest; listen for more cycles or raise the signal"
    )


def _warnings(listener) -> list[str]:
    warnings = []
    if listener.receiver.num_not_finite:
        warnings.append(f"{listener.receiver.num_not_finite} samples were not finite numbers and count as 0")
    if listener.num_ignored:
        warnings.append(f"{listener.num_ignored} frames did not fit the memory and were ignored; raise `memory_mb`")
    warnings += losses.as_warnings(listener.receiver.losses)
    if len(listener.bursts) > 1:
        warnings.append(f"{len(listener.bursts)} different bursts were received")
    return warnings
