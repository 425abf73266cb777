"""Compiled engines on disk: found by everything that went into them, checked before they are used, built once.

``key`` says what an engine was built from, ``store`` keeps engines in a folder, ``sealed`` is the header before every
binary file, ``record`` the readable file beside an engine, ``locks`` lets one process build what several want,
``listing`` looks at a whole folder and ``pruning`` decides what of it may go. Nothing here knows a compiler.
"""
