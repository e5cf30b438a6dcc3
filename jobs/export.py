"""Write a selection as training data of other trainers: `atlas-ray export` as a script for `ray job submit`."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.main import main

main(["export", *sys.argv[1:]])
