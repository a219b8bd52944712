"""The seed model and its adapters (resolve, verify, load, save, merge), and the equations of the paper.

Imports `base` and `text`.
"""

import transformers.utils

# transformers would import scikit-learn and scipy, two seconds at the start of a stage, for a way to generate and for
# the detection of objects, which nothing here uses.
transformers.utils.is_sklearn_available = transformers.utils.is_scipy_available = lambda: False
