"""Names that numpy-ml 0.1.2 asks for and that NumPy and Python have no more.

    pip download numpy-ml==0.1.2 --no-deps && python -m zipfile -e numpy_ml-0.1.2-*.whl numpy_ml_0_1_2
    parity audit numpy_ml_0_1_2/numpy_ml/neural_nets --setup examples/numpy_ml_names.py
"""

import collections
import collections.abc

import numpy as np

np.float, np.int, np.object = float, int, object
collections.Hashable = collections.abc.Hashable
