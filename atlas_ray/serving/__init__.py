"""Serving: the tuned agent on Ray Serve, as an OpenAI-compatible endpoint and as an agent that plays in sessions.

`app.py` builds the application, `ingress.py` answers requests, `guard.py` keeps strangers out, `schema.py` is the wire
format, `page.*` the web page. The episodes themselves live in `atlas_ray.rollout.sessions`, in Ray actors beside
those of evaluation.
"""
