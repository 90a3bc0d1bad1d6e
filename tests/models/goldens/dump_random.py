"""Keras' half of `compare_random.py`: python dump_random.py FILE COUNT SEED DTYPE."""

from __future__ import annotations

import sys

from tests.models.goldens import oracle, packing, random_cases

if __name__ == "__main__":
    path, count, seed, dtype = sys.argv[1:]
    drawn = random_cases.specifications(int(count), int(seed))
    packing.save(path, [oracle.run(one) for one in drawn], dtype)
