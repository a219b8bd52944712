"""What a judge's score means on the scale of people: maps from its scores to gold (calibration), and intervals.

Imports base and score.
"""
