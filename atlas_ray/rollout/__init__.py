"""Rollouts: an agent and an environment play an episode; servers play many of them at a time."""
