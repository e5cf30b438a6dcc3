"""Collect or import trajectories: `atlas-ray collect` as a script for `ray job submit`."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.main import main

main(["collect", *sys.argv[1:]])
