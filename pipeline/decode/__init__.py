"""Decoders: a film in, frames with their own timestamps out."""
