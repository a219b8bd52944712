"""From an example to token ids: the prompt, the chain of thought after it, the delimiter and the score.

Imports `base`.
"""
