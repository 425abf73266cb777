"""One film in a process of its own, so that whatever happens to it happens to no other.

::

    supervisor (the process that the user started)             worker (one process per film)
      FilmOrder  ---------------- standard input ----------------> worker.py -> film.py -> run_job
      Display    <--- one JSON object per line, messages.py ------ MessageDisplay
      StopToken  ------- SIGUSR1: stop, SIGTERM: abort ----------> StopToken

The first never imports a codec, a network or a GPU library. The second dies with the first.
"""
