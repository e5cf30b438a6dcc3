"""The environments of atlas-ray, one folder each: rules (`env.py`), tasks (`tasks.py`), expert (`expert.py`).

`import envs` registers all installed environments with Gymnasium as `atlas/<name>-v0`. Their names and classes are
entry points in `pyproject.toml`.
"""

from atlas_ray.environments.registry import discover

discover()
