"""The digital scheme: weights compressed to bits, a channel code and QAM, in the same frames as the analog symbols.

Along the signal: `quantise` (weights to levels), `compress` (levels to bytes), `channel_code` (bytes to QAM symbols and
back), `rate` (the bytes that some symbols carry at a planned SNR), `scheme` (the whole, for sender and receiver).
"""
