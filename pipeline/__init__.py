"""The stages of dvc.yaml: thin scripts that read, call one function of tract_core, and write."""
