"""What `dvc repro` would run now, and what that costs on a named device: projections, not measurements.

Imports every other room but `report`; no stage imports it.
"""
