"""All judges side by side: intervals, paired differences, and every number that the report shows.

Imports `base`, `text` and `score`.
"""
