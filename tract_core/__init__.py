"""TRACT (arXiv:2503.04381): regression-aware fine-tuning of LLM judges. See docs/code.md."""
