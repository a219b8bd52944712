"""One LoRA fine-tuning: the order of the data, packed sequences, the loop, ranks, checkpoints and memory.

Imports `base`, `text` and `model`.
"""
