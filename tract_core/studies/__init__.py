"""Further looks at a judge: attacks on the response, perplexity and a meta-judge's ratings of its CoTs.

Imports every room above but `train`, `report` and `plan`.
"""
