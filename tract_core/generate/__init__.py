"""Chains of thought and score probabilities from a model, by vLLM or transformers, kept so that none is drawn twice.

Imports `base`, `text` and `model`.
"""
