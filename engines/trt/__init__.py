"""TensorRT and TensorRT for RTX: two libraries of one shape. ``library`` holds all that differs between them and their
versions, ``builder`` compiles, ``session`` runs.
"""
