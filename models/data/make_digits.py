"""Makes digits.npz from the copy of the data set that the package scikit-learn brings.

    pip install scikit-learn numpy
    python models/data/make_digits.py

The file holds, in the original order:

- `images`: uint8 (1797, 8, 8), the ink of each pixel, 0 to 16,
- `labels`: int64 (1797,), the digit, 0 to 9.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-not-found]

TARGET = Path(__file__).with_name("digits.npz")


def main() -> None:
    """Writes the file beside this script."""
    digits = load_digits()
    np.savez_compressed(
        TARGET,
        images=digits.images.astype(np.uint8),
        labels=digits.target.astype(np.int64),
    )
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
