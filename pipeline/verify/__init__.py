"""Whether a result shows its film: frames of both, compared.

What a file says of itself is `pipeline.assembly.verify`'s.

Its arithmetic is its own, so that it does not repeat a mistake of the path that made the result.
"""
