"""The pipeline: collect, select, train, evaluate, report; which work each stage has, and when it is current.

`stages.py` is the table of stages, `keys.py` their keys, `run.py` the run directory's manifest; `collect.py` makes
trajectories, `selections.py` looks at selections, `serve.py` serves the tuned agent. `grid.py` reads an experiment's
file and checks it, `experiment.py` runs its combinations, `adopt.py` takes over what one of them has finished.
"""
