"""TRACT (arXiv:2503.04381): regression-aware fine-tuning of LLM judges. See README.md, "Paper -> code"."""
