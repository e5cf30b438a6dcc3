"""Check the critical steps: `atlas-ray verify` as a script for `ray job submit`."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.main import main

main(["verify", *sys.argv[1:]])
