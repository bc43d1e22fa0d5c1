"""Model packages and operations without torch: on NumPy arrays, and on whatever supports DLPack.

`load_package` opens a package: a `Model`, whose sessions run named arrays and carry the model's state. `load_pipeline`
runs it on files as they are. `call` is an operation by itself. Errors are those of `mambasdk.errors`.

Importing this needs the compiled module and NumPy; raises MissingDependencyError without.
"""

from mambasdk.errors import require_core

require_core("mambasdk.runtime")

from mambasdk._core import (  # noqa: E402
    Array,
    Model,
    Processor,
    Sampler,
    SamplerOptions,
    Session,
    TextStream,
    Tokenizer,
    abi_version,
    call,
    cpu_info,
    list_ops,
    load_native_plugin,
    set_max_isa,
    set_num_threads,
    version,
)
from mambasdk._core import runtime_describe as describe_process  # noqa: E402
from mambasdk.package import FileEntry, Manifest, VerifyReport, is_package, verify  # noqa: E402
from mambasdk.pipeline import NativeProcessor  # noqa: E402
from mambasdk.runtime.operations import describe  # noqa: E402
from mambasdk.runtime.packages import Pipeline, load_package, load_pipeline, read_manifest  # noqa: E402
from mambasdk.runtime.tensor_info import TensorInfo  # noqa: E402

__all__ = [
    "Array",
    "FileEntry",
    "Manifest",
    "Model",
    "NativeProcessor",
    "Pipeline",
    "Processor",
    "Sampler",
    "SamplerOptions",
    "Session",
    "TensorInfo",
    "TextStream",
    "Tokenizer",
    "VerifyReport",
    "abi_version",
    "call",
    "cpu_info",
    "describe",
    "describe_process",
    "is_package",
    "list_ops",
    "load_native_plugin",
    "load_package",
    "load_pipeline",
    "read_manifest",
    "set_max_isa",
    "set_num_threads",
    "verify",
    "version",
]
