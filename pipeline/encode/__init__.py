"""Encoders: frames in, one verified segment file out."""
