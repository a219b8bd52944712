"""A judge as an HTTP server: what draws and scores (backends), what is asked and answered (app, answers).

Imports base, text, model, data, generate, score and judge.
"""
