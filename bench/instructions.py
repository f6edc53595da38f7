"""Count the instructions that the row kernels execute for each element, from their machine code: no GPU is needed.

    pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm && python bench/instructions.py [FILE.csv]

A multiprocessor issues four warp instructions a cycle, so this bounds a step's time from below, as its bytes do. The
file is bench/results/instructions.csv unless told otherwise, and tests/nullcuda/test_instructions.py bounds it.
"""

import csv
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

import sass  # noqa: E402


def record(target):
    """Write the counts of each row and architecture to a file, and print them."""
    if (reason := sass.missing()) is not None:
        sys.exit(reason)
    nvrtc = version("nvidia-cuda-nvrtc")
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["row", "architecture", "instructions", "elements", "per_element", "nvrtc"])
        for architecture in sass.ARCHITECTURES:
            for row in sass.ROWS:
                instructions, elements = sass.counted(row, architecture)
                per = f"{instructions / elements:.2f}"
                table.writerow([row, f"sm_{architecture}", instructions, elements, per, nvrtc])
                print(f"sm_{architecture} {row:45} {per}")


if __name__ == "__main__":
    record(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench/results/instructions.csv")
