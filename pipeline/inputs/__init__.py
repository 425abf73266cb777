"""Which films a run works on, and in which order."""
