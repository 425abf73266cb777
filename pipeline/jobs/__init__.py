"""Films in processes of their own, so that whatever happens to one happens to no other.

A process that was quick with a film in which nothing went wrong takes the next one too (`processes.py`): photos do not
wait for libraries and a GPU to be opened again. Anything else ends it with its film.

::

    supervisor (the process that the user started)             worker (the process of a film)
      FilmOrder  ------------- standard input, a line each ------> worker.py -> film.py -> run_job
      Display    <--- one JSON object per line, messages.py ------ MessageDisplay
      StopToken  ------- SIGUSR1: stop, SIGTERM: abort ----------> StopToken

The first never imports a codec, a network or a GPU library. The second dies with the first.
"""
