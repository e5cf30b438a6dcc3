"""Small base agents: language models of 3 to 20 million parameters, trained from scratch on experts' trajectories.

They stand in for a base model where a study needs many seeds, long tasks or a second family and has two CPU cores. The
command is `python -m atlas_ray.pretrain`. Left out: tuning, which `atlas_ray.training` does on top of such a model.
"""
