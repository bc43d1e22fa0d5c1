"""What a model is to the SDK, and native programs: the builder behind every module's `lower`. Imports no torch."""

from mambasdk.lowering.model import Model, as_model, native_program, runs_by_name
from mambasdk.lowering.program import Program, Value
from mambasdk.lowering.signature import Parameter, Signature, parse_signature, registered_signatures

__all__ = [
    "Model",
    "Parameter",
    "Program",
    "Signature",
    "Value",
    "as_model",
    "native_program",
    "parse_signature",
    "registered_signatures",
    "runs_by_name",
]
