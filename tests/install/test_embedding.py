"""One model, every way to run it: equal greedy tokens from PyTorch, the runtime, mambasdk-run and examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROMPT = "def scan(x):"
COUNT = 24

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def expected(tiny_package: Path) -> list[int]:
    """Greedy tokens from PyTorch's full forward."""
    torch = pytest.importorskip("torch")
    import mambasdk

    model = mambasdk.load(tiny_package)
    tokens = list(PROMPT.encode())
    with torch.inference_mode():
        for _ in range(COUNT):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[-COUNT:]


def test_torch_step(tiny_package: Path, expected: list[int]) -> None:
    torch = pytest.importorskip("torch")
    import mambasdk

    model = mambasdk.load(tiny_package)
    tokens: list[int] = []
    with torch.inference_mode():
        out = model(torch.tensor([list(PROMPT.encode())]))
        while len(tokens) < COUNT:
            tokens.append(int(out.logits[0, -1].argmax()))
            out = model(torch.tensor([tokens[-1:]]), state=out.state)
    assert tokens == expected


def test_core_session(tiny_package: Path, expected: list[int]) -> None:
    from mambasdk import runtime

    model = runtime.load_package(tiny_package, verify=True)
    session = model.session()
    feed = model.tokenizer().encode(PROMPT)
    tokens: list[int] = []
    while len(tokens) < COUNT:
        logits = session.run({"tokens": np.array([feed], np.int32)}, ["last_logits"])["last_logits"]
        tokens.append(int(np.argmax(logits)))
        feed = tokens[-1:]
    assert tokens == expected


def test_mambasdk_run(prefix: Path, tiny_package: Path, expected: list[int]) -> None:
    arguments = [str(tiny_package), "--prompt", PROMPT, "--max-new-tokens", str(COUNT), "--tokens"]
    assert _tokens([str(prefix / "bin" / "mambasdk-run"), *arguments]) == expected
    shim = Path(sys.executable).with_name("mambasdk-run")
    assert _tokens([str(shim), *arguments]) == expected


@pytest.mark.parametrize("example", ["embed_c", "embed_cpp"])
@pytest.mark.parametrize("where", ["wheel", "cmake --install"])
def test_example(
    example: str,
    where: str,
    prefix: Path,
    tiny_package: Path,
    expected: list[int],
    build_program: Callable[[Path, Path], Path],
    request: pytest.FixtureRequest,
) -> None:
    """Built against the wheel and against an installation; checks its own save and restore too."""
    root = prefix if where == "wheel" else request.getfixturevalue("installation")
    program = build_program(ROOT / "examples" / example, root / "lib" / "cmake" / "mambasdk") / example
    assert _tokens([str(program), str(tiny_package), PROMPT, str(COUNT)]) == expected
    missing = subprocess.run([program, "/nonexistent", PROMPT, "1"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "/nonexistent" in missing.stderr


@pytest.fixture(scope="module")
def installation(build_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cmake --install` into a folder that is then moved: the installation is relocatable."""
    first = tmp_path_factory.mktemp("install") / "first"
    subprocess.run(["cmake", "--install", str(build_tree), "--prefix", str(first)], check=True, capture_output=True)
    return first.rename(first.with_name("moved"))


def _tokens(command: list[str]) -> list[int]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines() if not line.startswith("{")]
