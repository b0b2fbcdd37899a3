"""What a receiver says of samples and bursts that gave less than they should."""

from airnet_sdr.dsp import losses
from airnet_sdr.dsp.errors import LinkError, one_line
from airnet_sdr.dsp.frame import VERSION, Header
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.listen import Listener


def why_nothing(burst: BurstCombiner | None, listener: Listener) -> str:
    """Why no network was received."""
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


def warnings_of(listener: Listener) -> list[str]:
    """What went wrong in the samples and among the bursts, a line each; meanwhile another thread may receive."""
    warnings = []
    if listener.receiver.num_not_finite:
        warnings.append(f"{listener.receiver.num_not_finite} samples were not finite numbers and count as 0")
    if listener.num_ignored:
        warnings.append(f"{listener.num_ignored} frames did not fit the memory and were ignored; raise `memory_mb`")
    warnings += losses.as_warnings(list(listener.receiver.losses))
    senders: dict[Header, list[int]] = {}  # frames of each, by burst
    for header, burst in list(listener.bursts.items()):
        senders.setdefault(header.burst_key, []).append(burst.num_received)
    if len(senders) > 1:
        warnings.append(f"{len(senders)} different bursts were received")
    num_foreign = sum(sum(each) - max(each) for each in senders.values())
    if num_foreign:
        warnings.append(
            f"{num_foreign} frames contradict others of their burst in payload or carrier and were taken for another "
            "sender's; a `key` tells who is who"
        )
    return warnings


def as_link_error(reason: Exception) -> LinkError:
    """What a user's data or network raised as an error of the link, and an error of the link as it is."""
    return reason if isinstance(reason, LinkError) else LinkError(f"{type(reason).__name__}: {one_line(reason)}")


def without_traceback(error: LinkError) -> LinkError:
    """The error itself, without its causes and the traceback, whose frames hold a burst's symbols and network."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
