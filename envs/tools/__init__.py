"""The common parts of the five tool environments (weather, todo, movie, sheet, academia); not an environment itself.

An environment is a table of `Tool`s (`toolbox.py`), a `Backend` whose methods have the tools' names (`backend.py`),
`Template`s that make its tasks and play them (`tasks.py`, `expert.py`), and a subclass of `ToolEnv` (`env.py`) that
combines these. `grammar.py` reads and writes the texts, `live.py` calls web services, `files.py` reads upstream's task
files.

A subclass writes `__init__`, which takes its keyword options and passes these parts to `ToolEnv.__init__`. It writes
`_judge` if more than the answer counts, and `_play_file` if upstream's files have a reference solution.
"""
