"""Regression-aware reinforcement learning (REAL): what a round draws, and its rewards.

The training itself is that of all rows (tract_core/train).
"""
