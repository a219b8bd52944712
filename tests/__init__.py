"""Tests mirror the modules; tests/reference.py is the paper as plain float64 loops."""
