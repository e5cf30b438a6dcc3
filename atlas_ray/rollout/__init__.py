"""Rollouts: a policy plays whole episodes in an environment; many at a time on environment servers.

`spec.py` says what an episode is; `policy.py`, `episode.py`, `replay.py` and `task.py` play it, without ray or torch.
`driver.py`, `server.py` and `player.py` run this on a cluster. Nothing here knows of selections.
"""
