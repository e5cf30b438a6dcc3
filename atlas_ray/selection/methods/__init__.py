"""The selection methods of this package, one file each; `selection/method.py` says what a method is."""
