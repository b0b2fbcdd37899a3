"""The receiver: samples -> frames -> combined symbols -> weights -> network -> accuracy and report."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
from torch import nn

from airnet_sdr.dsp import losses
from airnet_sdr.dsp.errors import InputError, LinkError, NothingReceivedError, RadioError, one_line
from airnet_sdr.dsp.host.files import check_folder, checked_path
from airnet_sdr.dsp.host.memory import give_back
from airnet_sdr.dsp.host.options import config_from, split_options, with_options
from airnet_sdr.dsp.host.run import Run, options_of
from airnet_sdr.dsp.radio import RadioConfig, Source, open_source
from airnet_sdr.dsp.radio.record import RecordedSource, recording
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batch_norm import statistics_of
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.ensemble import extract_widths
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import hollow, tensor_specs, to_vectors
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.seal import Key
from airnet_sdr.models.task import check_dataset, known
from airnet_sdr.rx.combine import BurstCombiner, rebuild, unsealed
from airnet_sdr.rx.config import ListenConfig, OutputConfig, ReceiveConfig
from airnet_sdr.rx.explain import as_link_error, warnings_of, why_nothing, without_traceback
from airnet_sdr.rx.listen import Listener, listen
from airnet_sdr.rx.report import Rebuilt, add_evaluation, average_of, make_report, true_errors, write_json
from airnet_sdr.rx.restore import Averaged, Restored, evaluate_restored, manifest_of, restore, way_to_statistics
from airnet_sdr.rx.samples import ArraySource

MAX_THREADS = 4  # for the receiver's signal processing


@dataclasses.dataclass(frozen=True)
class Reception:
    """A received network: the module, the receiver's report, the burst, and the model card.

    `failure` is the error of an evaluation that failed, None otherwise. `parts` are the networks that arrived, two if
    the module averages their outputs; `card` is that of the first.
    """

    network: nn.Module
    report: dict
    burst: BurstCombiner
    card: ModelCard
    failure: LinkError | None = None
    parts: tuple[Restored, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy on the evaluation data, 0 to 1; None if not evaluated."""
        return self.report["accuracy"]

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as a checkpoint, with the accuracy and metrics found, otherwise those of the model card.

        Of an average each network has a file of its own, W-1.safetensors and W-2.safetensors for W.safetensors, with
        the accuracy and metrics of its model card.
        """
        path, alone, are_sent = checked_path(path), len(self.parts) == 1, bool(self.report["batch_norm"])
        metadata = {"received_over": self.report["radio"]["address"]}
        for number, part in enumerate(self.parts, 1):
            name = path if alone else path.with_stem(f"{path.stem}-{number}")
            found = (self.accuracy, self.report["metrics"] or {}) if alone else (None, {})
            checkpoints.save(name, part.checkpoint(metadata, are_sent, *found), module=part.module)

    def draw(self, path: str | os.PathLike) -> None:
        """Draw constellation, channel, error of each layer and accuracy; PNG, PDF or SVG by the file's suffix."""
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

    def with_failure(self, reason: Exception) -> "Reception":
        """The reception with an evaluation that failed, which is added to its report's warnings."""
        error = as_link_error(reason)
        self.report["warnings"].append(f"the evaluation failed: {one_line(error)}")
        return dataclasses.replace(self, failure=error)

    def raise_failure(self) -> None:
        """Raise the error of an evaluation that failed, once the files are written."""
        if self.failure is not None:
            raise self.failure


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
    config = with_options(ReceiveConfig, config, receiving)
    listen_config, radio_config = ListenConfig(**listening), config_from(RadioConfig, radio)
    if listen_config.follow:
        raise InputError("`follow` reports many receptions; use airnet_sdr.rx.receiver.receive_from")
    address = samples if isinstance(samples, str) else None
    source = ArraySource(samples, radio_config) if address is None else open_source(address, radio_config)
    run = Run(options=options_of(radio_config, listen_config, config))
    return next(receive_from(source, config, listen_config, run=run))


def receive_from(
    source: Source,
    config: ReceiveConfig = ReceiveConfig(),
    listening: ListenConfig = ListenConfig(),
    record: str | None = None,
    on_refused: Callable[[LinkError], None] = lambda error: None,
    on_rebuilt: Callable[[Reception], None] = lambda reception: None,
    run: Run | None = None,
) -> Iterator[Reception]:
    """Open the source and listen: one reception, or, with ``follow``, one at each new cycle or model.

    A burst that cannot be rebuilt is skipped, and listening continues. If no burst was rebuilt at the end, the error
    of the best one is raised.

    record : path of a recording of the received samples, with an annotation per frame
    on_refused : called with the error of each skipped burst
    on_rebuilt : called with each reception before its network is evaluated, for what must not be lost by that
    run : what the report says of this run; by default the configs

    Raises as `receive`.
    """
    check(config)
    run = run or Run(options=options_of(listening, config))
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
        refusal: LinkError | None = None  # the first
        num_rebuilt = 0
        for burst in listen(source, listener, listening):
            try:
                reception = evaluate_burst(burst, listener, config, source.describe(), started, on_rebuilt, run)
            except RadioError:
                raise
            except LinkError as error:
                burst.note_failure(error)
                on_refused(without_traceback(error))
                refusal = refusal or error
                continue
            num_rebuilt += 1
            yield reception
            if not listening.follow:
                return
        if not num_rebuilt:
            raise refusal or NothingReceivedError(why_nothing(None, listener))


def check(config: ReceiveConfig) -> None:
    """Check before listening what would otherwise fail after the reception; InputError."""
    resolve_architecture(config.architecture)
    if config.key is not None:
        Key(config.key)
    check_dataset("evaluate", config.evaluate)
    check_folder("data_dir", config.data_dir)
    if config.truth is not None:
        checkpoints.load(config.truth, resolve_architecture(config.architecture))


def evaluate_burst(
    burst: BurstCombiner | None,
    listener: Listener,
    config: ReceiveConfig,
    radio: dict,
    started: float,
    on_rebuilt: Callable[[Reception], None] = lambda reception: None,
    run: Run = Run(),
) -> Reception:
    """Rebuild and evaluate one burst, and make its report; NothingReceivedError if it has no decodable network.

    An evaluation that fails is the reception's `failure`, and a warning in its report.

    radio : the source's description, with its warnings
    started : `time.perf_counter` when listening began
    on_rebuilt : called with the reception before its network is evaluated
    run : what the report says of this run
    """
    manifest = None if burst is None else burst.manifest(last=True)
    if manifest is None:
        raise NothingReceivedError(why_nothing(burst, listener))
    rebuilding = time.perf_counter()
    key = None if config.key is None else Key(config.key)
    if key is not None:
        key.check(burst.header, burst.manifest_bytes, burst.seal)
    module = hollow(build(manifest.card.architecture, manifest.card.widths))
    numels = [spec.numel for spec in tensor_specs(module)]
    symbols = burst if key is None else unsealed(burst, key, manifest.num_symbols(numels))
    weights = rebuild(symbols, manifest, numels, config.estimator)
    if key is not None and burst.seal != listener.accepted:  # else the next cycle of the burst accepted last
        key.accept(burst.seal)
        listener.accepted = burst.seal
    of_first = manifest_of(weights, manifest)
    errors = true_errors(weights.vectors, _truth(config, of_first.card))
    seconds_dsp = listener.seconds + time.perf_counter() - rebuilding
    parts = [
        restore(each, manifest, module if each.card is None else None)
        for each in (weights, weights.second)
        if each is not None
    ]
    manifest, module = of_first, parts[0].module
    specs = tensor_specs(module)
    give_back(4 * sum(spec.numel for spec in specs))
    rebuilt = Rebuilt(burst, manifest, specs, weights, errors)
    if weights.second is not None:
        module = Averaged(module, parts[1].module, weights.share).eval()
    warnings = [*radio.get("warnings", []), *warnings_of(listener)]
    warnings += [text for part in parts for text in part.warnings]
    have = [part.are_sent for part in parts if statistics_of(part.module)]
    are_sent = bool(have) and all(have)
    samples = listener.receiver.num_samples
    timing = {
        "seconds_total": time.perf_counter() - started,
        "seconds_dsp": seconds_dsp,
        "samples": samples,
        "samples_per_second": samples / seconds_dsp if seconds_dsp > 0 else None,
    }
    about = {name: value for name, value in radio.items() if name != "warnings"}
    about["lost_samples"] = losses.num_lost(listener.receiver.losses)
    if burst.seal is not None and key is None:
        warnings.append("the burst is sealed: without its `key` these weights are noise")
    report = make_report(rebuilt, about, timing, warnings)
    report |= {"batch_norm": "sent" if are_sent else None, "batch_norm_inputs": None}
    report["average"] = average_of(weights)
    report |= {"seal": burst.seal and burst.seal.counter, "run": run.record()}
    reception = Reception(module, report, burst, manifest.card, parts=tuple(parts))
    on_rebuilt(reception)
    try:
        _evaluate(reception, config)
    except Exception as reason:  # the user's data and network may raise anything: what was received stays
        reception = reception.with_failure(reason)
    timing["seconds_total"] = time.perf_counter() - started
    return reception


def _evaluate(reception: Reception, config: ReceiveConfig) -> None:
    """Find accuracy and metrics on the test data, unless that is off; measure batch norm if asked to or needed."""
    module, report, dataset = reception.network, reception.report, config.evaluate or reception.card.dataset
    if dataset != "none":
        if dataset not in known():
            raise InputError(f"the manifest names the data set {dataset!r}, unknown here; set `evaluate` to none")
        mode = way_to_statistics(config.batch_norm, reception.parts, report)
        add_evaluation(report, evaluate_restored(module, mode, report, dataset, config.data_dir))
    if statistics_of(module) and report["batch_norm"] is None:
        report["warnings"].append("batch norm statistics were not sent, and not measured, as there is no data here")


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
