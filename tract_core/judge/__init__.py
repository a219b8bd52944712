"""A trained judge in use: rows of any file -> verdicts, and the folder with which it leaves this project.

Imports base, text, model, data, generate, score and calibrate.
"""
