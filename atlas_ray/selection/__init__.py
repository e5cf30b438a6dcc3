"""Selection: which steps of an expert trajectory are critical (paper section 3.2).

One file per method (`llm`, `perplexity`, `random`, `non_critical`, `all`, `hybrid`), each a pure rule
`(trajectory, ratio, seed, ...) -> Selection` that knows neither ray nor torch; `budget.py` is the one rounding rule;
`run.py` maps a method over stored trajectories with Ray Data; `compare.py`, `export.py` and `estimate.py` are what is
done with selections, and before there are any. A trajectory without steps has an empty selection in every method; what
went wrong for one trajectory is an error row, `<kind>: <detail>`.
"""
