"""What `dvc repro` would run now, and what that costs on a named device: projections, not measurements.

It reads the settings, data, models and generations that the stages would read; no stage imports it.
"""
