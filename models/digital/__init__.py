"""The digital alternative: weights compressed to bits, a channel code, QAM; in the same frames as the analog symbols.

Along the signal: `quantise` (weights to levels), `compress` (levels to bytes), `channel_code` (bytes to QAM symbols and
back), `rate` (how many bytes a number of symbols carries at a planned SNR), `scheme` (all of them, for sender and
receiver).
"""
