"""An exported graph compiled ahead of time into a `.pt2`, with the SDK's operations called through torch's C shim.

The library inside holds no weights: they come from the package's safetensors files by name. Its threads are counted at
run time, and its instruction set is chosen here, never taken from the machine by accident.
"""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mambasdk.errors import LoweringError, closest
from mambasdk.lowering.exported import ExportedModel

OLDEST_TORCH = (2, 13)  # the first that compiles for a processor of one's choice
_WHERE = "AOTInductor"
_NAMESPACE = "mambasdk"
# instruction set -> GCC's -march, width of inductor's vectors in bits
_X86 = {"baseline": ("x86-64", 1), "avx2": ("x86-64-v3", 256), "avx512": ("x86-64-v4", 512)}
_ARM = {"baseline": ("armv8-a", 128)}


def instruction_sets(detected: str) -> list[str]:
    """What this machine can compile for, least first; detected: `_core.cpu_info()["isa_detected"]`."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return list(_ARM)
    names = list(_X86)
    return names[: names.index(detected) + 1] if detected in names else names


def default_instruction_set(detected: str) -> str:
    """AVX2 where this machine has it: widely there, and convolutions choose for themselves at run time."""
    return [name for name in instruction_sets(detected) if name in ("baseline", "avx2")][-1]


def compile_model(exported: ExportedModel, path: Path, isa: str, detected: str) -> dict[str, Any]:
    """Compile into the file `path` for the instruction set `isa`; returns what the manifest says of it.

    Takes from half a minute to many, and needs a C++ compiler. Raises LoweringError.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise LoweringError(
            f"torch {torch.__version__} cannot compile for a given processor",
            where=_WHERE,
            way_out=f"pip install 'torch>={oldest}'",
        )
    possible = instruction_sets(detected)
    if isa not in possible:
        raise LoweringError(f"this machine cannot compile for {isa!r}", where=_WHERE, way_out=closest(isa, possible))
    march, width = (_X86 if platform.machine() in ("x86_64", "AMD64") else _ARM)[isa]
    options = {
        "cpp.march": march,
        "cpp.simdlen": width,
        "cpp.dynamic_threads": True,
        "aot_inductor.package_constants_in_so": False,
        "aot_inductor.check_lowerbound": False,
        "aot_inductor.custom_ops_to_c_shims": {op: [*_DECLARATIONS, c_shim(op)] for op in _own_operations(exported)},
    }
    try:
        torch._inductor.aoti_compile_and_package(exported.program, package_path=str(path), inductor_configs=options)
    except Exception as error:  # inductor and the C++ compiler raise whatever they like
        reason = " ".join(str(error).split())
        raise LoweringError(f"the graph does not compile: {reason[:1500]}", where=_WHERE) from error
    _refuse_operations_without_c_entry(path)
    return {
        "torch": torch.__version__.split("+")[0],
        "target": {"system": sys.platform, "machine": platform.machine(), "isa": isa},
    }


def _own_operations(exported: ExportedModel) -> list[Any]:
    """The SDK's operations in the graph; refuses those of other libraries, which a program without Python lacks."""
    found: dict[Any, None] = {}
    foreign: dict[str, None] = {}
    for module in exported.program.graph_module.modules():
        nodes: Iterable[Any] = module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ()
        for node in nodes:
            if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
                continue
            if node.target.namespace == _NAMESPACE:
                found[node.target] = None
            elif node.target.namespace not in ("aten", "prims", "prim", "_quantized"):
                foreign[str(node.target)] = None
    if foreign:
        raise LoweringError(
            f"operations that only their own library runs: {', '.join(foreign)}",
            where=_WHERE,
            way_out="write the model with torch's or mambasdk's operations",
        )
    return list(found)


def c_shim(op: Any) -> str:
    """A C++ function through which the compiled graph calls `op`: handles in, handles out, by torch's dispatcher.

    Inductor calls `aoti_torch_cpu_<name>` with a handle for a tensor, a pointer to one for an optional tensor, plain
    scalars, and a pointer for each result.
    """
    from torchgen.aoti.fallback_ops import inductor_fallback_ops

    name = op._schema.name.split("::")[1]
    if any(known.split(".")[1] == name for known in inductor_fallback_ops):
        raise LoweringError(f"{op}: torch has a C entry aoti_torch_cpu_{name} of its own", where=_WHERE)
    parameters, pushes = [], []
    for index, argument in enumerate(op._schema.arguments):
        kind = str(argument.type)
        if kind not in _KINDS:
            raise LoweringError(f"{op}: argument {argument.name} is {kind}", where=_WHERE, expected=", ".join(_KINDS))
        declared, push = _KINDS[kind]
        parameters.append(f"{declared} a{index}")
        pushes.append(push.format(value=f"a{index}", slot=f"stack[{index}]"))
    takes = []
    for index, _ in enumerate(op._schema.returns):
        parameters.append(f"AtenTensorHandle* r{index}")
        takes.append(f"*r{index} = reinterpret_cast<AtenTensorHandle>(stack[{index}]);")
    size = max(len(op._schema.arguments), len(op._schema.returns), 1)
    return "\n".join(
        [
            f"AOTITorchError aoti_torch_cpu_{name}({', '.join(parameters)}) {{",
            f"  StableIValue stack[{size}] = {{}};",
            *(f"  {push}" for push in pushes),
            f'  if (AOTITorchError error = torch_call_dispatcher("{op._schema.name}", "{op._schema.overload_name}",',
            "                                                   stack, TORCH_ABI_VERSION)) return error;",
            *(f"  {take}" for take in takes),
            "  return AOTI_TORCH_SUCCESS;",
            "}",
        ]
    )


# Of torch/csrc/stable/c/shim.h, which the generated code does not include.
_DECLARATIONS = (
    "AOTITorchError torch_call_dispatcher(const char*, const char*, StableIValue*, uint64_t)",
    "AOTITorchError torch_new_stable_ivalue(StableIValue**)",
)
_TENSOR = (
    "if (AOTITorchError error = aoti_torch_new_tensor_handle({source}, "
    "reinterpret_cast<AtenTensorHandle*>(&{target}))) return error;"
)
_CELL = (
    "StableIValue* cell = nullptr; "
    "if (AOTITorchError error = torch_new_stable_ivalue(&cell)) return error; "
    "{slot} = reinterpret_cast<StableIValue>(cell); "
)
# schema type -> C++ type of the parameter, and how it goes onto the stack
_KINDS = {
    "Tensor": ("AtenTensorHandle", _TENSOR.format(source="{value}", target="{slot}")),
    "Optional[Tensor]": (
        "const AtenTensorHandle*",
        "if ({value}) {{ " + _CELL + _TENSOR.format(source="*{value}", target="*cell") + " }}",
    ),
    "bool": ("bool", "{slot} = {value};"),
    "int": ("int64_t", "{slot} = static_cast<StableIValue>({value});"),
    "float": ("double", "std::memcpy(&{slot}, &{value}, sizeof({value}));"),
}


def _refuse_operations_without_c_entry(path: Path) -> None:
    """Operations that inductor leaves to a C++ helper object of torch, which the engine does not have."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".json") or name.endswith("_metadata.json"):
                continue
            nodes = json.loads(archive.read(name))
            targets = [entry["node"]["target"] for entry in nodes.get("nodes", [])] if isinstance(nodes, dict) else []
            if targets:
                raise LoweringError(
                    f"operations without a C entry in torch {torch.__version__}: {', '.join(sorted(set(targets)))}",
                    where=_WHERE,
                    way_out="write the model without them",
                )
