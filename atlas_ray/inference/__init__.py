"""Inference: vLLM engines, the local endpoint, and the client of OpenAI-compatible endpoints."""
