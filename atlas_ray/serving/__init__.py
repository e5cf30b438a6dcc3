"""Serving the tuned agent on Ray Serve: an OpenAI-compatible endpoint, and sessions in which it plays episodes.

`app.py` builds the application, `ingress.py` answers requests, `guard.py` checks who may send them, `schema.py` has the
bodies of requests and responses, `page.*` is the web page. The episodes of sessions run in environment servers, the Ray
actors that evaluation uses too (`atlas_ray.rollout.sessions`).
"""
