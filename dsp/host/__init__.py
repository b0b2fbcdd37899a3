"""What every command needs and no signal does: options, stopping, the process's environment, writing whole files."""
