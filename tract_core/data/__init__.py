"""From raw files and hub data to the tables of examples, and the checks that come before any training.

Imports `base` and `text`.
"""
