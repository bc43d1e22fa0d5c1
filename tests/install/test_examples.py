"""The examples beside embed_c and embed_cpp: built against the installed wheel, run, and compared with Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROMPT = "def scan(x): return the states of every step"

pytestmark = pytest.mark.install

Build = Callable[[Path, Path], Path]


@pytest.fixture(scope="session")
def cmake_dir(prefix: Path) -> Path:
    return prefix / "lib" / "cmake" / "mambasdk"


def _run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


# ---- embed_rust ----


@pytest.fixture(scope="module")
def embed_rust(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    if cargo is None:
        pytest.skip("cargo is not installed; https://rustup.rs or Debian's package cargo")
    target = tmp_path_factory.mktemp("embed_rust")
    environment = {
        **os.environ,
        "MAMBASDK_LIBRARY": str(prefix / "lib" / "libmambasdk.so.1"),
        "CARGO_TARGET_DIR": str(target),
    }
    built = _run(cargo, "build", "--release", "--offline", "--locked", cwd=EXAMPLES / "embed_rust", env=environment)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr
    return target / "release" / "embed_rust"


def test_rust_gives_the_same_tokens(embed_rust: Path, tiny_package: Path) -> None:
    from mambasdk import _core

    model = _core.load_package(tiny_package)
    session, feed, expected = model.session(), model.tokenizer().encode(PROMPT), []
    for _ in range(16):
        logits = session.run({"tokens": np.array([feed], np.int32)}, ["last_logits"])["last_logits"]
        feed = [int(np.argmax(logits))]
        expected += feed
    done = _run(embed_rust, tiny_package, PROMPT, "16")
    assert done.returncode == 0, done.stderr
    description, *tokens = done.stdout.splitlines()
    assert json.loads(description)["family"] == "mamba"
    assert [int(token) for token in tokens] == expected


def test_rust_reports_errors(embed_rust: Path) -> None:
    missing = _run(embed_rust, "/nonexistent", PROMPT, "1")
    assert missing.returncode == 1
    assert "/nonexistent" in missing.stderr
    assert _run(embed_rust).returncode == 2


# ---- cmake_consumer ----


def test_consumer_of_an_installation(build_program: Build, cmake_dir: Path) -> None:
    import mambasdk

    done = _run(build_program(EXAMPLES / "cmake_consumer", cmake_dir) / "cmake_consumer")
    assert done.stdout == f"mambasdk {mambasdk.__version__}: 11 22 33\n", done.stderr


@pytest.fixture(scope="module")
def consumer_of_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The consumer's build folder, configured with mambasdk as a part of it."""
    folder = tmp_path_factory.mktemp("consumer")
    done = _run(
        *("cmake", "-S", EXAMPLES / "cmake_consumer", "-B", folder, "-G", "Ninja"),
        *("-DCMAKE_DISABLE_FIND_PACKAGE_mambasdk=ON", f"-DMAMBASDK_SOURCE={ROOT}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_source_as_a_part_is_the_runtime_alone(consumer_of_source: Path) -> None:
    commands = (consumer_of_source / "build.ninja").read_text()
    assert "libmambasdk.so.1" in commands
    for foreign in ("mambasdk_torch", "mambasdk_core", "mambasdk_tests", "-Werror"):
        assert foreign not in commands


@pytest.mark.slow
def test_consumer_of_source(consumer_of_source: Path) -> None:
    built = _run("cmake", "--build", consumer_of_source)
    assert built.returncode == 0, built.stdout + built.stderr
    assert _run(consumer_of_source / "cmake_consumer").stdout.endswith(": 11 22 33\n")


def test_consumer_without_either_says_what_is_missing(tmp_path: Path) -> None:
    done = _run("cmake", "-S", EXAMPLES / "cmake_consumer", "-B", tmp_path, "-DCMAKE_PREFIX_PATH=/nonexistent")
    assert done.returncode != 0
    assert "mambasdk" in done.stderr


# ---- thread_pool_host ----


def test_host_lends_its_threads(build_program: Build, cmake_dir: Path, tiny_package: Path) -> None:
    program = build_program(EXAMPLES / "thread_pool_host", cmake_dir) / "thread_pool_host"
    done = _run(program, tiny_package, PROMPT)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = re.findall(r"threads=(\d+) parallel_calls=(\d+) bytes=(\d+) logits=(\w+)", done.stdout)
    assert [int(run[0]) for run in runs] == [1, 2, 3, 4, 7]
    assert all(int(calls) > 0 and int(size) > 0 for _, calls, size, _ in runs)
    assert len({checksum for *_, checksum in runs}) == 1
    assert "cancelled=1\nstate_kept=1 goes_on=1\n" in done.stdout


# ---- http_service ----


@pytest.fixture(scope="module")
def service(
    build_program: Build, cmake_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """The port of a running service, and the package that it serves: random weights large enough for varied text."""
    torch = pytest.importorskip("torch")
    import mambasdk

    if not Path("/usr/include/httplib.h").exists():
        pytest.skip("cpp-httplib is not installed (Debian: libcpp-httplib-dev); CMake would download it")
    program = build_program(EXAMPLES / "http_service", cmake_dir) / "http_service"
    torch.manual_seed(1)
    package = tmp_path_factory.mktemp("service") / "package"
    mambasdk.save_package(mambasdk.create_model("mamba", d_model=64, n_layer=2, vocab_size=256), package)
    with subprocess.Popen([str(program), str(package), "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"http_service: listening on http://127\.0\.0\.1:(\d+)\n", line)
        assert match is not None, line
        yield int(match.group(1)), package
        process.terminate()
        assert process.wait(timeout=10) == 0


def _post(port: int, body: bytes, path: str = "/generate") -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


def test_concurrent_requests_give_what_python_gives(service: tuple[int, Path]) -> None:
    from mambasdk_language.generation import generate

    port, package = service
    requests = [
        {"prompt": f"def f{i}(x):", "max_new_tokens": 48, "temperature": 0.7 + 0.1 * (i % 3), "top_k": 20, "seed": i}
        for i in range(12)
    ]
    requests[3]["stop"] = ["e"]
    with ThreadPoolExecutor(max_workers=8) as threads:
        answers = list(threads.map(lambda request: _post(port, json.dumps(request).encode()), requests))
    for request, (status, text, headers) in zip(requests, answers, strict=True):
        prompt = str(request.pop("prompt"))
        assert status == 200, text
        assert headers["transfer-encoding"] == "chunked"
        assert text == generate(str(package), prompt, engine="native", **request).text
    assert len({text for _, text, _ in answers}) > 6, "the texts should differ from seed to seed"


def test_text_arrives_while_it_is_generated(service: tuple[int, Path]) -> None:
    """The first piece comes before the service has made the last: reading stops early, and the service goes on."""
    port, _ = service
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/generate", json.dumps({"prompt": "x", "max_new_tokens": 65536}).encode())
    response = connection.getresponse()
    assert len(response.read(8)) == 8
    connection.close()
    assert _post(port, b'{"prompt": "y", "max_new_tokens": 2}')[0] == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'{"prompt": "\xff"}', "not a JSON object"),
        (b"{}", 'no "prompt"'),
        (b'{"prompt": 3}', "expected a string"),
        (b'{"prompt": ""}', "the prompt is empty"),
        (b'{"prompt": "x", "max_new_tokens": 0}', "expected an integer from 1"),
        (b'{"prompt": "x", "max_new_tokens": 18446744073709551615}', "expected an integer from 1"),
        (b'{"prompt": "x", "max_new_tokens": 1.5}', "expected an integer"),
        (b'{"prompt": "x", "top_p": 7}', "top_p is 7"),
        (b'{"prompt": "x", "temperature": "hot"}', "expected a number"),
        (b'{"prompt": "x", "stop": "y"}', "expected an array of strings"),
        (b'{"prompt": "x", "tempreature": 1}', "unknown member"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"prompt": [' + b"1," * 50_000 + b"1]}", "prompt is an array"),
        (b'{"prompt": "x", "top_p": "' + b"y" * 5000 + b'"}', "expected a number"),
    ],
)
def test_bad_requests(service: tuple[int, Path], body: bytes, message: str) -> None:
    status, text, _ = _post(service[0], body)
    assert status == 400
    assert message in json.loads(text)["error"]


def test_other_paths_and_large_bodies(service: tuple[int, Path]) -> None:
    port, _ = service
    status, text, _ = _post(port, b"{}", "/nothing")
    assert (status, "there is no POST /nothing" in json.loads(text)["error"]) == (404, True)
    status, text, _ = _post(port, b'{"prompt": "' + b"x" * (1 << 20) + b'"}')
    assert (status, "larger than 1 MiB" in json.loads(text)["error"]) == (413, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1234", "Origin": "http://localhost:1234"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
    ],
)
def test_only_this_machines_own_pages_are_answered(
    service: tuple[int, Path], headers: dict[str, str], status: int
) -> None:
    connection = HTTPConnection("127.0.0.1", service[0], timeout=30)
    try:
        connection.request("GET", "/model", headers=headers)
        assert connection.getresponse().status == status
    finally:
        connection.close()


def test_slow_clients_do_not_hold_the_service(service: tuple[int, Path]) -> None:
    """Connections that send a byte now and then: others are served meanwhile, and they are cut off."""
    port, _ = service
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(40)]
    try:
        for client in slow:
            client.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nX-")
        assert _post(port, b'{"prompt": "y", "max_new_tokens": 2}')[0] == 200
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(1)
            try:
                slow[0].sendall(b"a")
            except OSError:
                break
        else:
            pytest.fail("a request that takes longer than 10 seconds to arrive is cut off")
    finally:
        for client in slow:
            client.close()


def test_service_refuses_bad_arguments(build_program: Build, cmake_dir: Path) -> None:
    program = build_program(EXAMPLES / "http_service", cmake_dir) / "http_service"
    assert _run(program, "/nonexistent", "99999").returncode == 2
    missing = _run(program, "/nonexistent", "0")
    assert missing.returncode == 1
    assert "/nonexistent" in missing.stderr


def test_every_example_is_explained() -> None:
    """A README of a few lines in each project, and a line in docs/embedding.md."""
    page = (ROOT / "docs" / "embedding.md").read_text()
    for folder in sorted(
        path.parent for pattern in ("CMakeLists.txt", "Cargo.toml") for path in EXAMPLES.glob(f"*/{pattern}")
    ):
        assert (folder / "README.md").is_file(), folder.name
        assert f"examples/{folder.name}" in page, folder.name
