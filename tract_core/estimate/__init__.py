"""The mean score of a system, from many judged rows and few labels, with an interval.

Imports `base` and `data`.
"""
