"""From the probabilities of each sample to one score for each example, and how well these agree with gold.

Imports `base`.
"""
