"""Signal processing of the link: arrays in, arrays out.

Conventions, written once and used everywhere:

Carrier frequency offset (CFO)
    ``y[n] = x[n] * exp(+1j * cfo * n)``: a positive ``cfo`` (rad/sample) moves the received spectrum up, as when the
    transmitter's carrier is above the receiver's. In hertz: ``cfo_hz = cfo * rate_hz / (2 * pi)``.
Sample clock offset (SCO)
    ``y[n] = x(n * (1 + sco))``: with a positive ``sco`` the receiver's clock is slow against the transmitter's, the
    burst arrives in fewer samples, and a frame of ``L`` samples takes ``L / (1 + sco)``. One crystal drives carrier and
    sample clock of a radio, so there ``sco = cfo_hz / freq_hz``, with the same sign. ``sco_ppm = 1e6 * sco``.
Delay
    ``y[n] = x[n - delay]``, which multiplies the spectrum by ``exp(-1j * w * delay)``.
Discrete Fourier transform
    Unitary in both directions (``norm="ortho"``): white noise of variance ``noise_var`` a sample has variance
    ``noise_var`` a subcarrier. Subcarrier ``k`` is the frequency ``2 * pi * k / fft_size`` rad/sample, ``k`` signed.
Power and noise
    Payload symbols have unit average power. ``noise_var`` is the total complex variance (real plus imaginary).
    An SNR always says where: per sample, per payload symbol, or of the weights after combining.
Types
    IQ is complex64 and weights are float32 at module boundaries; phases, sums and normalisations use float64 inside.
"""
