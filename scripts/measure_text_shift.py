"""How often the interval of ``two_sample_auc`` covers 0.5 where two sets of texts are of one source, beside DeLong's alone.

python scripts/measure_text_shift.py --draws 200
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import numpy as np

from counterclaim.records import Estimate
from counterclaim.text import overlap


def covers(found: Estimate) -> bool:
    return found.interval is not None and found.interval[0] <= 0.5 <= found.interval[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    plain: list[bool] = []
    widen = overlap.widen_auc

    def noting(alone: Estimate, *rest: object) -> Estimate:
        plain.append(covers(alone))
        return widen(alone, *rest)  # type: ignore[arg-type]  # handed on as it came

    widened = []
    for seed in range(draws):
        random = np.random.default_rng(seed)
        texts = [" ".join(f"word{i}" for i in random.integers(0, 300, 12)) for _ in range(60)]
        with patch.object(overlap, "widen_auc", noting):
            widened.append(covers(overlap.two_sample_auc(texts[:30], texts[30:])))
    print(
        f"{draws} draws, two sets of 30 texts of 12 words from 300: widened {np.mean(widened):.1%}, DeLong {np.mean(plain):.1%}"
    )


if __name__ == "__main__":
    main()
