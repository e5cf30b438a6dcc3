"""Trajectories in other projects' file formats, in and out; docs/data.md shows every shape that is read.

In: `files.py` reads files, with `sources.py` (which files), `rows.py` (their rows), `fields.py` (a row's fields),
`names.py` (environments), `turns.py` (conversations) and `adp.py` (the Agent Data Protocol). Out: `agenttraj.py` and
`messages.py`. The text of a row is data and is never executed.
"""
