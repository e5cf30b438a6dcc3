"""Trajectories in other projects' file formats: AgentTraj-L, chat messages (OpenAI, ShareGPT, axolotl) and ADP.

`agenttraj.py`, `messages.py` and `adp.py` have one format each. `files.py` reads files of any of these formats, row by
row. The text of a row is data and is never executed.
"""
