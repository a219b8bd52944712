"""What every stage stands on: params.yaml, the score scale, tables and files, places, errors, and how a stage runs.

Imports no other room.
"""
