"""`python -m atlas_ray.selection` prints the table of selection methods, as docs/selection.md has it."""

from atlas_ray.selection.method import describe

print(describe(), end="")
