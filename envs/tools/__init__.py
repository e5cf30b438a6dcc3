"""What the five tool environments (weather, todo, movie, sheet, academia) share; itself not an environment.

An environment is a table of `Tool`s (`toolbox.py`), a `Backend` whose methods carry the same names (`backend.py`),
`Template`s that make its tasks and play them (`tasks.py`, `expert.py`), and a subclass of `ToolEnv` (`env.py`) that
puts them together. `grammar.py` reads and writes the texts, `live.py` talks to web services, `files.py` reads
upstream's task files.

What a subclass gives: an `__init__` with its keyword options that passes these parts to `ToolEnv.__init__`; where a
task is judged by more than the answer, `_judge`; where upstream's files come with a reference solution, `_play_file`.
"""
