"""Payloads: the schemes by which weights become payload symbols and back, one file each.

A new scheme is one class that fulfils `base.Payload` and one entry in `SCHEMES`.
"""

from airnet_sdr.models.payload.analog import AnalogPayload
from airnet_sdr.models.payload.base import Candidates, Payload, ReceivedWeights, Section, SoftSymbols
from airnet_sdr.models.payload.digital import DigitalPayload
from airnet_sdr.models.payload.hybrid import HybridPayload

SCHEMES: dict[str, type[Payload]] = {scheme.kind: scheme for scheme in (AnalogPayload, DigitalPayload, HybridPayload)}

__all__ = [
    "SCHEMES",
    "AnalogPayload",
    "Candidates",
    "DigitalPayload",
    "HybridPayload",
    "Payload",
    "ReceivedWeights",
    "Section",
    "SoftSymbols",
]
