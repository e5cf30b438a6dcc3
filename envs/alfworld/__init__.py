"""ALFWorld: do a household task in a text house."""
