"""Threads joined by bounded channels: the runtime. Knows nothing of frames."""
