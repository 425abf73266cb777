"""A whole run, unattended: what to do next, when, and what to do when something is in the way.

========== ============================================================================================
folder     where a run keeps its log, its status and what it did
status     how a run is, as a file that another terminal or host can read
requests   what another terminal or host asks of a run, as files
hours      at what times of the day a run may work
disk       whether there is room for what a run writes
retry      whether a film that failed is tried again, and when
hooks      the user's commands at the end of a film and of the run
supervisor the loop over all films; what it remembers is in ``records``, how it measures time in ``clock``
gpu_health whether the GPU is lost or slowed down
========== ============================================================================================

A film is never frozen in the middle: whatever makes a run wait lets the film finish its segment and ends its process,
which frees the GPU; going on is a new process that continues at the first missing segment.
"""
