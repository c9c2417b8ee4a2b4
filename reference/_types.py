"""What the annotations here mean by an array, of any shape and dtype, which the docstrings say, and by a path."""

import os
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Path = str | os.PathLike[str]
