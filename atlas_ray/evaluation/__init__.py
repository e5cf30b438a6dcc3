"""Evaluation: episodes of every model in every environment, with metrics and confidence intervals."""
