"""What nvcc makes of the kernels: registers, spills and instructions, for resource_budget.json and the test of it.

`python tests/cuda/resource_budget.py` writes the file. Needs nvcc and nvdisasm, no GPU: these are
counts, nothing is timed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import sass

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_suffix(".json")
ARCHITECTURES = ("sm_80", "sm_90a", "sm_100")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "cpp").rglob("*.cu"))
# Loops are counted that have at least so many of these in one basic block: the steps of a scan, an exponential a state.
COUNTED, AT_LEAST = "MUFU.EX2", 8


def nvcc_release() -> str:
    """13.0.88"""
    text = subprocess.run(["nvcc", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", text)
    assert found is not None, text
    return found[1]


def nvdisasm() -> str | None:
    """The program of CUDA, or that of the package nvidia-cuda-nvdisasm."""
    packaged = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/nvdisasm"))
    return str(packaged[-1]) if packaged else shutil.which("nvdisasm")


def compiled(source: str, architecture: str, cubin: Path) -> str:
    """Compiles; any warning is an error. What ptxas says of each kernel."""
    number = architecture.removeprefix("sm_")
    command = ["nvcc", "-std=c++20", "-O3", "-cubin", f"-gencode=arch=compute_{number},code={architecture}"]
    command += ["-Werror=all-warnings", "-Xptxas=-v,-warn-spills,-warn-lmem-usage", f"-I{ROOT / 'cpp'}"]
    command += [f"-I{ROOT / 'cpp' / 'include'}", "-o", str(cubin), str(ROOT / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def readable(name: str) -> str:
    """`scan_forward<float, 16>` of a mangled name."""
    text = subprocess.run(["c++filt", name], check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\w+<[^<>]*>)\(", text)
    assert found is not None, text
    return found[1].replace("mambasdk::", "")


def registers(report: str) -> dict[str, dict[str, int]]:
    """Of each kernel in ptxas's report: registers, bytes of stack and of spills."""
    found = {}
    for part in report.split("Compiling entry function '")[1:]:
        numbers = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        used = re.search(r"Used (\d+) registers", part)
        assert numbers is not None, part
        assert used is not None, part
        stack, stores, loads = map(int, numbers.groups())
        found[part.split("'")[0]] = {"registers": int(used[1]), "stack": stack, "spills": stores + loads}
    return found


def loop_counts(code: list[sass.Block]) -> dict[str, Any]:
    """The counted loop's instructions on the shortest and on the longest way through it, for each exponential."""
    counts = [sum(sass.mnemonic(line) == COUNTED for line in block.instructions) for block in code]
    most = max(counts)
    if most < AT_LEAST:
        return {}
    block = counts.index(most)
    shortest, longest = sass.ways_through(code, sass.loop_around(code, block), block)
    return {"step": [shortest, longest], "per_state": [round(shortest / most, 2), round(longest / most, 2)]}


def measured(source: str, architecture: str, disassembler: str) -> dict[str, dict[str, Any]]:
    """Kernels of a source -> their counts. No kernel uses local memory."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        report = registers(compiled(source, architecture, cubin))
        listing = subprocess.run([disassembler, "-c", cubin], check=True, capture_output=True, text=True).stdout
    found = {}
    for name, code in sass.kernels(listing).items():
        used = report[name]
        local = [
            line for block in code for line in block.instructions if sass.mnemonic(line).startswith(("LDL", "STL"))
        ]
        assert (used["stack"], used["spills"], local) == (0, 0, []), f"{readable(name)} uses local memory: {used}"
        found[readable(name)] = {"registers": used["registers"], **loop_counts(code)}
    return dict(sorted(found.items()))


def main() -> None:
    disassembler = nvdisasm()
    assert disassembler is not None, "nvdisasm is absent: pip install nvidia-cuda-nvdisasm"
    counts = {
        source: {architecture: measured(source, architecture, disassembler) for architecture in ARCHITECTURES}
        for source in SOURCES
    }
    text = json.dumps({"nvcc": nvcc_release(), "counts": counts}, indent=1)
    FILE.write_text(re.sub(r"\[\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2]", text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
