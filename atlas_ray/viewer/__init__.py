"""The live view: a page that follows runs, holds them beside each other, and asks for rows as it shows them.

`rows.py` filters rows in memory, `index.py` has the trajectories, selections and episodes of a run as such rows,
`run.py` keeps up with a run directory, `page.py` writes the report's sections about several runs, `app.py` answers
requests. Tables, figures and drawings are the report's.
"""
