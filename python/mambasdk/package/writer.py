"""Writing a model package: everything into a folder beside the target, which then takes its place in one step."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mambasdk.atomic import replacing_folder
from mambasdk.element_types import WEIGHT_TYPES, torch_dtypes
from mambasdk.errors import InvalidArgumentError, LoweringError, PackageError, require_module, require_torch
from mambasdk.lowering import Program, as_model, native_program, runs_by_name
from mambasdk.lowering.prepared import prepare_at_export
from mambasdk.lowering.program import PRODUCTS
from mambasdk.models.checkpoint import load_tensors
from mambasdk.models.identity import NO_FAMILY, known_identity
from mambasdk.package.card import model_card
from mambasdk.package.compiled import write_compiled
from mambasdk.package.manifest import (
    COMPILED_ABI,
    CONSTANTS_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    NATIVE_ABI,
    PROGRAM_FILE,
    WEIGHTS_FILE,
    FileEntry,
    Manifest,
    is_package,
    json_text,
    sha256_file,
)
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import FamilySpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ENGINES = ("native", "aoti", "torch")


def save_package(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    processors: Mapping[str, Mapping[str, Any]] | None = None,
    head_options: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    products: str | None = None,
    engine: str | None = None,
    isa: str | None = None,
    prepared: bool = False,
    readme: bool = True,
    golden: bool = True,
    overwrite: bool = False,
) -> Manifest:
    """Write `model` as a package that `mambasdk.load` and the C/C++ runtime read.

    model: made by `create_model`, `import_checkpoint` or `load`; or any module that answers `mambasdk.nn.Model`, whose
        package is of no family: the runtime runs it, and `mambasdk.load` cannot build it again.
    processors: manifest entries by slot, for example {"text": {"kind": "bytes"}}; an entry's "file" is a path outside,
        which is copied in. None takes what the model's `package_processors()` says, else the family's default.
    head_options: configuration of the family's head, for example {"labels": ["cat", "dog"], "top_k": 2}: what the
        native head of that name reads. None keeps those of the package that the model was loaded from.
    dtype: of the stored weights, "float32", "bfloat16" or "float16"; None keeps the model's. Parameters that must stay
        float32 do.
    products: "float32": native programs multiply in float32 whatever the weights are stored as. None: where they are
        bfloat16, dense layers round their inputs to it, which some processors multiply twice as fast; sums are float32.
    engine: what runs it without Python. "native" for models that lower to the SDK's operations; "aoti" compiles the
        model with torch's AOTInductor, which takes minutes and a C++ compiler and ties the package to this torch
        version; "torch" for Python alone. None: native where the model can, else torch.
    isa: the instruction set of an "aoti" package, "baseline", "avx2" or "avx512"; None: "avx2" where it is there.
    prepared: store what a native program would compute from its weights at load, as matrices in the layout of products.
        With `MAMBASDK_WEIGHTS=map` such a package starts in a third of the time; it is up to twice as large.
    golden: write the inputs and outputs that `verify` checks, where the model has `example_inputs`.
    overwrite: replace a package that is there.
    The target appears complete or not at all. Raises PackageError when the target is in the way, LoweringError when
    the model cannot be written for the engine, InvalidArgumentError for a weight that its type cannot hold.
    """
    who = known_identity(model) or NO_FAMILY
    family = get_host().family(who.family) if who.family else None
    target = Path(directory).expanduser().absolute()
    _check_target(target, overwrite)
    contract = as_model(model)
    head = contract.package_head
    options = _head_options(head, family, who.head_options if head_options is None else head_options)
    if own := contract.package_head_options():
        options = {**own, **(options or {})}
    stored = _stored_dtype(dtype)
    _check_values(model)
    program = _program(model, engine, stored, products)
    engine = _engine(engine, program, model)
    if prepared and program is None:
        raise LoweringError(
            "there is nothing to prepare", where="save_package", expected="a native program", got=engine
        )
    given = contract.package_processors() if processors is None else processors
    entries = {slot: dict(entry) for slot, entry in given.items()}

    with replacing_folder(target, lambda there: _check_target(there, overwrite)) as work:
        tensors = stored_tensors(model, stored)
        _save_tensors(tensors, work / WEIGHTS_FILE)
        _copy_files(entries, work)
        manifest = Manifest(
            family=who.family,
            variant=who.variant,
            config=who.config,
            head=head,
            head_options=options,
            engine={"name": engine},
            processors=entries,
            requires={
                "mambasdk_abi": list(COMPILED_ABI if engine == "aoti" else NATIVE_ABI),
                "plugins": _required_plugins(who.family, head, entries),
            },
        )
        if program is not None:
            _check_weights(program, tensors)
            if prepared:
                prepare_at_export(program, tensors)
            text = json_text(program.to_json(), f"save_package: {PROGRAM_FILE}")
            (work / PROGRAM_FILE).write_text(text, "utf-8")
            manifest.engine["program"] = PROGRAM_FILE
            if program.constants:
                _save_tensors(program.constants, work / CONSTANTS_FILE)
                manifest.engine["constants"] = CONSTANTS_FILE
            manifest.inputs.extend(program.inputs)
            manifest.outputs.extend(program.outputs)
        if engine != "torch" or (golden and runs_by_name(contract)):
            twin = float32_twin(model, stored)
            if golden:
                _save_tensors(golden_tensors(twin), work / GOLDEN_FILE)
            if engine == "aoti":
                write_compiled(twin, manifest, work, isa)
        if readme:
            count = sum(parameter.numel() for parameter in model.parameters())
            summary = type(model).__name__ if family is None else family.summary
            (work / "README.md").write_text(model_card(manifest, summary, count), "utf-8")
        for path in sorted(work.rglob("*")):
            if path.is_file():
                name = path.relative_to(work).as_posix()
                manifest.files[name] = FileEntry(sha256_file(path), path.stat().st_size)
        data = manifest.to_json("save_package")
        Manifest.parse(data)  # what is written can be read
        (work / MANIFEST_FILE).write_bytes(data)
    return manifest


def _check_values(model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if value.is_meta:
            raise InvalidArgumentError(
                f"parameter {name} is on the meta device: it has no values", where="save_package"
            )


def _program(model: nn.Module, engine: str | None, dtype: torch.dtype | None, products: str | None) -> Program | None:
    """The native program where the engine may be native; where it need not be, None for a model that has none."""
    if products not in (None, *PRODUCTS):
        raise InvalidArgumentError(
            "bad products", where="save_package", expected=" or ".join(map(repr, PRODUCTS)), got=repr(products)
        )
    if engine not in (None, "native"):
        return None
    try:
        return native_program(model, _storage(model, dtype), products)
    except LoweringError as error:
        if engine == "native":
            raise
        warnings.warn(f"the package runs in Python only: {error}", stacklevel=3)
        return None


def _storage(model: nn.Module, dtype: torch.dtype | None) -> dict[str, str]:
    """The element type in which each weight is written, by its name."""
    names = {found: name for name, found in torch_dtypes().items()}
    weights = model.state_dict(keep_vars=True).items()
    return {name: names.get(found := _stored_as(value, dtype), str(found)) for name, value in weights}


def _stored_as(value: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The type in which a parameter or buffer is written: `dtype` where it is a float that may have it."""
    if dtype is not None and value.is_floating_point() and not getattr(value, "_keep_float32", False):
        return dtype
    types = torch_dtypes()
    return types["f32"] if value.dtype == types["f64"] else value.dtype


def stored_tensors(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The state dict as it is written: each parameter once, under its first name."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen:
            continue
        seen.add(id(value))
        tensor = value.detach().cpu()
        if (wanted := _stored_as(value, dtype)) != tensor.dtype:
            tensor = _narrowed(name, tensor, wanted)
        result[name] = tensor.contiguous()
    return result


def _narrowed(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type; raises InvalidArgumentError where a finite value becomes infinite."""
    torch = require_torch("saving a package")
    narrowed = tensor.to(dtype)
    if bool((narrowed.isinf() & tensor.isfinite()).any()):
        largest = float(tensor[tensor.isfinite()].abs().max())
        raise InvalidArgumentError(
            f"{name} does not fit {str(dtype).removeprefix('torch.')}",
            where="save_package",
            expected=f"values up to {torch.finfo(dtype).max:g}",
            got=f"{largest:g}",
            way_out="store the weights as float32 or bfloat16, which have a larger range",
        )
    return narrowed


def float32_twin(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy of the model that computes in float32 with its weights rounded as they are stored, on the CPU."""
    torch = require_torch("saving a package")
    twin = copy.deepcopy(model).cpu().eval()
    load_tensors(twin, stored_tensors(model, dtype), where="save_package", device="cpu", dtype=torch.float32)
    for parent in twin.modules():  # what no state dict has
        for name, buffer in parent.named_buffers(recurse=False):
            if buffer.is_floating_point():
                parent.register_buffer(name, buffer.float(), name not in parent._non_persistent_buffers_set)
    return twin


def golden_tensors(twin: nn.Module) -> dict[str, Tensor]:
    """`inputs.*` and `outputs.*` of what `float32_twin` gave."""
    torch = require_torch("saving a package")
    model = as_model(twin)
    inputs = model.example_inputs()
    with torch.no_grad():
        outputs = model.native_outputs(inputs)
    return {
        **{f"inputs.{name}": tensor for name, tensor in inputs.items()},
        **{f"outputs.{name}": tensor.contiguous() for name, tensor in outputs.items()},
    }


def _engine(name: str | None, program: Program | None, model: nn.Module) -> str:
    if name is None:
        return "torch" if program is None else "native"
    if name not in ENGINES:
        raise InvalidArgumentError("bad engine", where="save_package", expected=" or ".join(ENGINES), got=repr(name))
    if name == "native" and program is None:
        raise LoweringError(
            f"{type(model).__name__} has no named inputs and outputs",
            where="save_package",
            way_out="mambasdk.nn.Model says what a model answers",
        )
    return name


def _head_options(
    head: str | None, family: FamilySpec | None, options: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The options as the manifest will hold them."""
    if options is None:
        return None
    if head is None:
        raise InvalidArgumentError(
            f"a model {'without a family' if family is None else f'of {family.name}'} has no head",
            where="save_package: head_options",
        )
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"not JSON: {error}", where="save_package: head_options", expected="text, numbers, lists and dicts"
        ) from error
    return copied


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not is_package(target):
        raise PackageError("the target exists and is no model package", where=str(target), way_out="give another path")
    if not overwrite:
        raise PackageError(
            "the target exists", where=str(target), way_out="pass overwrite=True (--overwrite) or give another path"
        )


def _stored_dtype(dtype: str | None) -> torch.dtype | None:
    if dtype is None:
        return None
    if dtype not in WEIGHT_TYPES:
        expected = " or ".join(WEIGHT_TYPES)
        raise InvalidArgumentError("bad dtype", where="save_package", expected=expected, got=repr(dtype))
    return cast("torch.dtype", getattr(require_torch("saving a package"), dtype))


def _check_weights(program: Program, tensors: Mapping[str, Tensor]) -> None:
    absent = [name for name in program.weights if name not in tensors]
    if absent:
        raise PackageError(f"the native program needs weights that the model lacks: {', '.join(absent[:8])}")


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    safetensors = require_module("safetensors.torch", "saving a package", "pip install safetensors")
    safetensors.save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(0o644)


def _copy_files(entries: Mapping[str, dict[str, Any]], work: Path) -> None:
    """Copy the files that processor entries name into the package, and make the entries name the copies."""
    for slot, entry in entries.items():
        if (file := entry.get("file")) is None:
            continue
        source = Path(file).expanduser()
        if not source.is_file():
            raise PackageError(f"no file {file!r}", where=f"processor {slot}")
        copy = work / source.name
        if copy.exists():
            raise PackageError(f"two files are named {source.name!r}", where=f"processor {slot}")
        shutil.copyfile(source, copy)
        entry["file"] = source.name


def _required_plugins(
    family: str, head: str | None, processors: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """The family's plugin, and those whose native libraries bring the package's processors and head."""
    host = get_host()
    names = [("processor", f"{slot}.{entry['kind']}") for slot, entry in processors.items()]
    names += [("head", head)] if head is not None else []
    tables: dict[str, Mapping[str, Any]] = {
        "processor": host.registrations.processors,
        "head": host.registrations.heads,
    }
    records = [host.owner("family", family)] if family else []
    for kind, name in names:
        if name in tables[kind] and (owner := host.owner(kind, name)).libraries and owner not in records:
            records.append(owner)
    return [{"name": record.distribution, "version": record.version} for record in records]
