"""The seed model and its adapters (resolve, verify, load, save, merge), and the equations of the paper.

Imports `base` and `text`.
"""
