"""Golden tensors: what another implementation recorded, in a folder, and how our model is asked for the same.

A folder holds `config.json`, `weights.safetensors` and `io.safetensors` or whatever its adapter reads; the environment
variable MAMBASDK_GOLDEN names the folder of all such folders. Every size, constant and case comes from these files, so
that an adapter serves any folder of its layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VARIABLE = "MAMBASDK_GOLDEN"
GRADIENT = "grad"  # what the name of a recorded gradient begins with

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Tolerance:
    """The largest error that counts as equal.

    of: what an error is measured in. "absolute"; "largest": the expected tensor's largest magnitude; "rms": its root
    mean square; "norm": the norm of the difference over the norm of the expected tensor.
    """

    limit: float
    of: Literal["absolute", "largest", "rms", "norm"] = "absolute"

    def check(self, found: Tensor, expected: Tensor, name: str) -> None:
        """Fail with the name, the error and the limit unless both have one shape and are equal within the limit."""
        assert found.shape == expected.shape, f"{name}: {tuple(found.shape)}, expected {tuple(expected.shape)}"
        error = self.error(found.detach(), expected)
        assert error <= self.limit, f"{name}: error {error:.3g} ({self.of}), allowed {self.limit:g}"

    def error(self, found: Tensor, expected: Tensor) -> float:
        """The error in units of `of`; infinite where one is NaN and the other is not."""
        if not expected.numel():
            return 0.0
        exact, given = _wide(expected), _wide(found)
        both = exact.isnan() & given.isnan()
        difference = (given - exact).masked_fill(both, 0).nan_to_num(nan=torch.inf, posinf=torch.inf)
        exact = exact.masked_fill(both, 0)
        scale = {
            "absolute": 1.0,
            "largest": float(exact.abs().max()),
            "rms": float(exact.square().mean().sqrt()),
            "norm": float(exact.norm()),
        }[self.of]
        error = float(difference.norm() if self.of == "norm" else difference.abs().max())
        return error / scale if scale else error


def _wide(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).detach().double()


class Recorded(Mapping[str, Tensor]):
    """Recorded tensors by name, which notes what was read. config: the folder's `config.json`."""

    def __init__(
        self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = config
        self._tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def under(self, prefix: str) -> Tensors:
        """The tensors whose names begin with `prefix`, by the rest of the name."""
        return {name.removeprefix(prefix): self[name] for name in self._tensors if name.startswith(prefix)}


def read_io(folder: Path, case: str) -> Tensors:
    """`io.safetensors`: of a case what begins with its name and a dot, without these."""
    tensors = load_file(folder / "io.safetensors")
    start = f"{case}." if case else ""
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def one_case(folder: Path) -> Sequence[str]:
    """The whole folder is one case."""
    return [""]


@dataclass(frozen=True, kw_only=True)
class Golden:
    """How the tensors of a golden folder are compared with those of a family.

    system: the folder, below the folder of all; may name a subfolder ("vmamba-ss2d/v0").
    run: (model, recorded) -> our tensors by the names under which they are recorded. It reads the inputs from
        `recorded`, whose tensors have the dtype of the run. Every recorded tensor is to be read or given back.
        Names that begin with "grad" are gradients.
    checkpoint: (folder, case) -> configuration and weights in the authors' format, for `import_checkpoint`; the
        weights are also what the imported model has to hold, name by name (in the file a prefix may come before).
    model: (folder, case) -> the module, where it is not a whole model of the family. One of the two is needed.
    recorded: (folder, case) -> the recorded tensors by name.
    cases: folder -> names of the cases that it holds.
    part: names a golden of a part of the model in the test's id.
    tolerance, gradient: in float32. double: of a second run in float64, where there is one: then the difference is
        the rounding of what was recorded.
    reordered: endings of names whose rows lie in another order in the authors' format.
    renumbered: layers may have other numbers in the authors' format.
    reading: the tensors are an evaluation of a published text and not of the authors' code.
    """

    system: str
    run: Callable[[Any, Recorded], Mapping[str, Tensor]]
    checkpoint: Callable[[Path, str], tuple[Any, Mapping[str, Tensor]]] | None = None
    model: Callable[[Path, str], nn.Module] | None = None
    recorded: Callable[[Path, str], Tensors] = read_io
    cases: Callable[[Path], Sequence[str]] = one_case
    part: str = ""
    tolerance: Tolerance = Tolerance(1e-4)
    gradient: Tolerance = Tolerance(1e-3, "norm")
    double: Tolerance | None = None
    reordered: tuple[str, ...] = ()
    renumbered: bool = False
    reading: bool = False

    def build(self, family: str, folder: Path, case: str) -> nn.Module:
        """The module of a case, in eval mode."""
        from mambasdk.models import import_checkpoint

        if self.model is not None:
            return self.model(folder, case).eval()
        if self.checkpoint is None:
            raise TypeError(f"the golden {self.system} of {family} has neither checkpoint nor model")
        return import_checkpoint(family, *self.checkpoint(folder, case)).eval()

    def compare(self, family: str, folder: Path, case: str, dtype: torch.dtype) -> None:
        """Run a case in `dtype` and fail unless every recorded tensor was read or equals ours."""
        recorded = self.recorded(folder, case)
        given = Recorded(recorded, config(folder), dtype)
        found = self.run(self.build(family, folder, case).to(dtype), given)
        assert found, f"{self.system}: nothing was compared"
        for name, tensor in found.items():
            assert name in recorded, f"{self.system} has no {name}, which the adapter gives"
            limit = self.tolerance if dtype != torch.float64 or self.double is None else self.double
            limit = self.gradient if name.startswith(GRADIENT) else limit
            limit.check(tensor, recorded[name], name)
        silent = set(recorded) - set(found) - given.read
        assert not silent, f"{self.system}: nothing looks at {sorted(silent)}"


def root() -> Path | None:
    """The folder of all golden folders, None where the environment names none."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def find(system: str) -> Path | None:
    """A system's golden folder, None where it is not there."""
    top = root()
    folder = top / system if top is not None else None
    return folder if folder is not None and folder.is_dir() else None


def folder_or_skip(system: str) -> Path:
    """A system's golden folder; skips the test where it is not there."""
    if (folder := find(system)) is None:
        pytest.skip(f"no golden tensors {system} in {root() or 'any folder'}; {VARIABLE} names the folder of them")
    return folder


def facts(file: str) -> Any:
    """A JSON file of published facts ("vim/state_dict_shapes.json"); skips the test where it is not there."""
    path = folder_or_skip(str(Path(file).parent)) / Path(file).name
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent}: this set of golden tensors does not hold the published facts")
    return json.loads(path.read_text())


def config(folder: Path) -> dict[str, Any]:
    """`config.json` of a golden folder."""
    read: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return read


def write(folder: Path, file: str, content: Mapping[str, Any]) -> None:
    """Add tensors (`.safetensors`) or values (`.json`) to a file of a golden folder, which is made where it is not."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    if path.suffix == ".json":
        before = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**before, **content}, indent=1) + "\n")
    else:
        tensors = load_file(path) if path.is_file() else {}
        save_file({**tensors, **{name: t.detach().clone().contiguous() for name, t in content.items()}}, path)


def record(
    golden: Golden, model: nn.Module, inputs: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> Tensors:
    """`inputs` and what the model gives for them in float64, rounded to float32: the tensors of a golden folder."""
    given = Recorded(inputs, config or {}, torch.float64)
    found = golden.run(model.eval().double(), given)
    tensors = {**{name: given[name] for name in inputs}, **found}
    return {name: t.detach().float() if t.dtype == torch.float64 else t.detach() for name, t in tensors.items()}


def scatter(model: nn.Module, seed: int, scale: float = 0.1) -> nn.Module:
    """Move every parameter and running statistic away from where it begins, so that nothing cancels or is idle."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((scale * noise).to(parameter))
        for name, buffer in model.named_buffers():
            noise = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_mean"):
                buffer.add_((0.4 * noise - 0.2).to(buffer))
            elif name.endswith("running_var"):
                buffer.mul_((0.5 + 1.5 * noise).to(buffer))
    return model
