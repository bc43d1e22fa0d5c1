"""Writing a model package: everything into a temporary directory beside the target, then one rename."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mambasdk.errors import InvalidArgumentError, LoweringError, PackageError, require_module, require_torch
from mambasdk.lowering import Program
from mambasdk.models.checkpoint import load_tensors
from mambasdk.models.identity import identity
from mambasdk.package.card import model_card
from mambasdk.package.compiled import write_compiled
from mambasdk.package.manifest import (
    ABI,
    GOLDEN_FILE,
    MANIFEST_FILE,
    NATIVE_ABI,
    PROGRAM_FILE,
    WEIGHTS_FILE,
    FileEntry,
    Manifest,
    sha256_file,
)
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import FamilySpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("native", "aoti", "torch")


def save_package(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    processors: Mapping[str, Mapping[str, Any]] | None = None,
    head_options: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    engine: str | None = None,
    isa: str | None = None,
    readme: bool = True,
    golden: bool = True,
    overwrite: bool = False,
) -> Manifest:
    """Write `model` as a package that `mambasdk.load` and the C/C++ runtime read.

    model: made by `create_model`, `import_checkpoint` or `load`.
    processors: manifest entries by slot, for example {"text": {"kind": "bytes"}}; an entry's "file" is a path outside,
        which is copied in. None takes what the model's `package_processors()` says, else the family's default.
    head_options: configuration of the family's head, for example {"labels": ["cat", "dog"], "top_k": 2}: what the
        native head of that name reads. None keeps those of the package that the model was loaded from.
    dtype: of the stored weights, "float32", "bfloat16" or "float16"; None keeps the model's. Parameters that must stay
        float32 do.
    engine: what runs it without Python. "native" for models that lower to the SDK's operations; "aoti" compiles the
        model with torch's AOTInductor, which takes minutes and a C++ compiler and ties the package to this torch
        version; "torch" for Python alone. None: native where the model can, else torch.
    isa: the instruction set of an "aoti" package, "baseline", "avx2" or "avx512"; None: "avx2" where it is there.
    golden: write the inputs and outputs that `verify` checks, where the model has `example_inputs`.
    overwrite: replace a package that is there.
    The target appears complete or not at all. Raises PackageError when the target is in the way, LoweringError when
    the model cannot be written for the engine.
    """
    who = identity(model)
    family = get_host().family(who.family)
    target = Path(directory).expanduser().absolute()
    _check_target(target, overwrite)
    # Where models of one family differ, the model says which head and processors its packages have.
    head: str | None = getattr(model, "package_head", family.head)
    options = _head_options(head, family, who.head_options if head_options is None else head_options)
    stored = _stored_dtype(dtype)
    program = native_program(model) if engine in (None, "native") else None
    engine = _engine(engine, program, model)
    entries = {slot: dict(entry) for slot, entry in processor_entries(model, family, processors).items()}

    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        work.chmod(0o755)
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
                "mambasdk_abi": list(ABI if engine == "aoti" else NATIVE_ABI),
                "plugins": _required_plugins(who.family, head, entries),
            },
        )
        if program is not None:
            _check_weights(program, tensors)
            (work / PROGRAM_FILE).write_text(json.dumps(program.to_json(), indent=1) + "\n", "utf-8")
            manifest.engine["program"] = PROGRAM_FILE
            manifest.inputs.extend(program.inputs)
            manifest.outputs.extend(program.outputs)
        checkable = hasattr(model, "example_inputs") and hasattr(model, "native_outputs")
        if engine != "torch" or (golden and checkable):
            twin = float32_twin(model, stored)
            if golden:
                _save_tensors(golden_tensors(twin), work / GOLDEN_FILE)
            if engine == "aoti":
                write_compiled(twin, manifest, work, isa)
        if readme:
            count = sum(parameter.numel() for parameter in model.parameters())
            (work / "README.md").write_text(model_card(manifest, family.summary, count), "utf-8")
        for path in sorted(work.rglob("*")):
            if path.is_file():
                name = path.relative_to(work).as_posix()
                manifest.files[name] = FileEntry(sha256_file(path), path.stat().st_size)
        data = manifest.to_json()
        Manifest.parse(data)  # what is written can be read
        (work / MANIFEST_FILE).write_bytes(data)
        _sync(work)
        _publish(work, target, overwrite)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return manifest


def native_program(model: nn.Module) -> Program | None:
    """The model's native program, None where the model cannot run natively."""
    lower = getattr(model, "lower", None)
    if lower is None:
        return None
    program = Program()
    lower(program)
    return program


def stored_tensors(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The state dict as it is written: each parameter once, under its first name."""
    torch = require_torch("saving a package")
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen:
            continue
        seen.add(id(value))
        if value.is_meta:
            raise InvalidArgumentError(
                f"parameter {name} is on the meta device: it has no values", where="save_package"
            )
        tensor = value.detach().cpu()
        if dtype is not None and tensor.is_floating_point() and not getattr(value, "_keep_float32", False):
            tensor = tensor.to(dtype)
        if tensor.dtype == torch.float64:
            tensor = tensor.float()
        result[name] = tensor.contiguous()
    return result


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
    model: Any = twin
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
            f"{type(model).__name__} has no lower(): it cannot run on the native engine",
            where="save_package",
            way_out='pass engine="aoti"',
        )
    return name


def processor_entries(
    model: nn.Module, family: FamilySpec, processors: Mapping[str, Mapping[str, Any]] | None
) -> Mapping[str, Mapping[str, Any]]:
    """Those given, else what the model's `package_processors()` says, else the family's."""
    if processors is not None:
        return processors
    own = getattr(model, "package_processors", None)
    return cast("Mapping[str, Mapping[str, Any]]", own()) if callable(own) else family.processors


def _head_options(head: str | None, family: FamilySpec, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The options as the manifest will hold them."""
    if options is None:
        return None
    if head is None:
        raise InvalidArgumentError(f"a {family.name} model has no head", where="save_package: head_options")
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
    if not (target / MANIFEST_FILE).is_file():
        raise PackageError("the target exists and is no model package", where=str(target), way_out="give another path")
    if not overwrite:
        raise PackageError("the target exists", where=str(target), way_out="pass overwrite=True or give another path")


def _stored_dtype(dtype: str | None) -> torch.dtype | None:
    if dtype is None:
        return None
    if dtype not in _DTYPES:
        raise InvalidArgumentError("bad dtype", where="save_package", expected=" or ".join(_DTYPES), got=repr(dtype))
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
    records = [host.owner("family", family)]
    for kind, name in names:
        if name in tables[kind] and (owner := host.owner(kind, name)).libraries and owner not in records:
            records.append(owner)
    return [{"name": record.distribution, "version": record.version} for record in records]


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _publish(work: Path, target: Path, overwrite: bool) -> None:
    """Rename `work` to `target`; an old package steps aside first and comes back if that fails."""
    if target.is_dir() and any(target.iterdir()):
        _check_target(target, overwrite)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / "package"
        os.rename(target, aside)
        try:
            os.rename(work, target)
        except BaseException:
            os.rename(aside, target)
            raise
        finally:
            shutil.rmtree(aside.parent, ignore_errors=True)
    else:
        os.rename(work, target)
