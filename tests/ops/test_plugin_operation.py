"""An operation that a native plugin brings later has everything a built-in one has in PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import abi
import pytest
import torch

import mambasdk
from mambasdk import ops


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The plugin, compiled against the installed headers (or the repository's) and loaded once."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here: cc, gcc and clang are absent")
    installed = Path(mambasdk.__file__).parent / "include"
    include = installed if installed.is_dir() else Path(__file__).parents[2] / "cpp" / "include"
    library = tmp_path_factory.mktemp("plugin") / "libtoy.so"
    source = Path(__file__).with_name("toy_plugin.c")
    command = [
        compiler,
        "-std=c11",
        "-Wall",
        "-Werror",
        "-fPIC",
        "-shared",
        f"-I{include}",
        str(source),
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    assert "toy_scale" not in ops.list_ops()
    abi.load_plugin(library)


def test_it_is_an_operator_with_all_that_goes_with_it(plugin: None) -> None:
    assert {"toy_scale", "toy_scale_backward"} <= set(ops.list_ops())
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ops.call("toy_scale", x=x, weight=weight), 2 * x * weight)
    assert torch.autograd.gradcheck(lambda x, w: ops.call("toy_scale", x=x, weight=w, factor=-3.0), (x, weight))
    torch.library.opcheck(torch.ops.mambasdk.toy_scale.default, (x, weight, 0.5))

    def model(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.ops.mambasdk.toy_scale(x + 1, weight).relu()

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight), model(x, weight))


def test_its_errors_name_it(plugin: None) -> None:
    x = torch.ones(3, 5)
    with pytest.raises(ValueError, match=r"toy_scale: weight is \(4,\), expected \(5,\): D is 5 in x"):
        ops.call("toy_scale", x=x, weight=torch.ones(4))
    with pytest.raises(ValueError, match="toy_scale: weight must be f32 or f64"):
        ops.call("toy_scale", x=x.bfloat16(), weight=torch.ones(5, dtype=torch.bfloat16))


def test_it_cannot_be_loaded_from_a_relative_path() -> None:
    with pytest.raises(abi.AbiError, match="is not absolute"):
        abi.load_plugin(Path("libtoy.so"))
