"""Jericho: parser games on a Z-machine, scored by sub-goals."""
