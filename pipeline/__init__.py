"""The stages of dvc.yaml: thin scripts that read, call one function of tract_core, and write."""

from tract_core.base import starting

starting.before_a_module(__name__)
