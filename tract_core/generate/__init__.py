"""Chains of thought and score probabilities from a model, by vLLM or transformers, kept so that none is sampled twice.

Imports `base`, `text` and `model`.
"""
