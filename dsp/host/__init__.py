"""Services of the commands: options, stopping, the process's environment, writing whole files."""
