"""Trajectories in the files that others write and read: chat messages (OpenAI, ShareGPT, axolotl) and ADP.

One file per shape, each with one pydantic schema that reading and writing share; `files.py` reads any of them, row by
row. AgentTraj-L is in `atlas_ray/agenttraj.py`. No ray, no torch; nothing of a row is ever run.
"""
