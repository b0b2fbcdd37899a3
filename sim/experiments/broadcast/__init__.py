"""One transmission for receivers of every SNR: `laws` of the SNR, `outputs` of networks, what a receiver `answers`,
`transmissions` made of parts, `plans` the search for the best one, `compare` the command, `link` its check."""
