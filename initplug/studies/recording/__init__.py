"""Recordings: what a constructor writes, watched and read back as distributions."""
