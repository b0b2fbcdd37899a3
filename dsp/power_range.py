"""Power of a tensor's symbols relative to the mean of all: its steps and bounds (`dsp.uep`)."""

POWER_STEP_DB = 0.25
MIN_POWER_DB = -9.0
MAX_POWER_DB = 9.0  # unless the plan has another
MOST_POWER_DB = 127 * POWER_STEP_DB  # of any plan: the manifest has a signed byte of steps
