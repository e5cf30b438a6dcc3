"""Selection: which steps of an expert trajectory are critical (paper section 3.2).

One file per method (`llm`, `perplexity`, `random`, `non_critical`, `all`), each a pure rule
`(trajectory, ratio, seed, ...) -> Selection` that knows neither ray nor torch; `budget.py` is the one rounding rule;
`run.py` maps a method over trajectories with Ray Data. A trajectory without steps has an empty selection in every
method; what went wrong for one trajectory is an error row, `<kind>: <detail>`.
"""
