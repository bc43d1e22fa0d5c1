"""Native programs: the builder behind every module's `lower`, checked against the op registry. Imports no torch."""

from mambasdk.lowering.program import Program, Value
from mambasdk.lowering.signature import Parameter, Signature, parse_signature, registered_signatures

__all__ = ["Parameter", "Program", "Signature", "Value", "parse_signature", "registered_signatures"]
