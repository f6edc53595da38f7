"""Large pictures in little memory: 16 megapixels in 1.5 GB and 100 in 4 GB, by the bundled model and PiD's four steps.

    pytest bench/bench_memory.py --benchmark-json=bench.json && python bench/report.py bench.json

`peak_bytes` is the most that the process had in memory, Python, libraries and the file's encoding included, and
`limit_bytes` what it was told it may have. `estimate` is what a bar showed as the time that remains when a quarter was
done, over what it then took: the pace since the first tile, as rich's bar has it.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT = """
import json, sys, time
from pathlib import Path
from pidsampler import FlowSDE, Upscaler, timesteps
from pidsampler.upscale import batch
from pidsampler.upscale.memory import Tiling

done, seen = 0.0, []  # (share of the work, when it was done)

def progress(path, share):
    global done
    done += share
    seen.append((done, time.perf_counter()))

up = Upscaler.load("tiny", "cpu", tiling=Tiling.parse("auto", None, max_memory=sys.argv[3]))
files = [batch.File(Path(sys.argv[1]), Path(sys.argv[2]))]
(outcome,) = batch.upscale_files(up, files, settings=batch.Settings(FlowSDE(timesteps.pid())), progress=progress)
assert outcome.error is None, outcome.error
end = time.perf_counter()
(first, began), (quarter, now) = seen[0], next(s for s in seen if s[0] > 0.25)
estimate = (1 - quarter) * (now - began) / (quarter - first) / (end - now)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({
    "peak_bytes": 1024 * int(peak.split()[1]), "estimate": estimate, **outcome.record["tiles"],
}))
"""


@pytest.mark.parametrize(("side", "limit"), [(1024, "1.5GB"), (2500, "4GB")], ids=["16 megapixels", "100 megapixels"])
def test_memory(benchmark, tmp_path, side, limit):
    with Image.open(EXAMPLES / "chameleon.jpg") as photo:
        photo.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).save(tmp_path / "in.png")
    found = {}

    def run():
        command = [sys.executable, "-P", "-c", SCRIPT, tmp_path / "in.png", tmp_path / "out.png", limit]
        found.update(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(found, limit_bytes=int(float(limit[:-2]) * 1e9))
    with (tmp_path / "out.png").open("rb") as file:
        assert struct.unpack(">8x8xII", file.read(24)) == (4 * side, 4 * side)
    assert found["peak_bytes"] < benchmark.extra_info["limit_bytes"]
