"""Selection: which steps of an expert trajectory are critical (paper section 3.2).

`method.py` says what a method is; `methods/` has one file per method; `scored.py` and `asking.py` are the bases of
those that use what a model says of the steps, and a selector's answers; `budget.py` is the one rounding rule; `run.py`
makes a selection over the stored trajectories; `compare.py`, `export.py` and `estimate.py` are for finished selections
and for their cost beforehand. Every method gives a trajectory without steps an empty selection. A trajectory that could
not be judged gets an error row, `<kind>: <detail>`.
"""

from atlas_ray.selection.method import Method, NoOptions, RuleMethod, SelectionContext, names

__all__ = ["Method", "NoOptions", "RuleMethod", "SelectionContext", "names"]
