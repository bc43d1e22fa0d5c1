"""Gradients by naming convention: operation `X_backward` is the derivative of `X`.

Its arguments are `grad_<output>`, and inputs and outputs of `X` under their own names; its outputs are `grad_<input>`.
An output that `X_backward` takes and that `X` makes only when a flag `save_<output>` is set is made whenever a gradient
will be needed, and not shown to a caller who did not ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mambasdk.ops._failure import typed
from mambasdk.ops._signature import Signature

_GRAD = "grad_"


def autograd_kernel(op: Any, signature: Signature, signatures: Mapping[str, Signature]) -> Any:
    """The kernel of `op` for the Autograd key. `signatures` is looked up at each call: derivatives may come later."""
    derivative = f"{signature.name}_backward"

    @typed
    def below(keyset: Any, args: list[Any]) -> tuple[torch.Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            result = op.redispatch(keyset & torch._C._after_autograd_keyset, *args)
        return result if isinstance(result, tuple) else (result,)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> tuple[torch.Tensor, ...]:
            ctx.set_materialize_grads(False)
            backward = signatures.get(derivative)
            wanted = dict(zip((a.name for a in signature.inputs), args, strict=True))
            values = dict(wanted)
            if backward is not None:
                values.update(dict.fromkeys(_save_flags(signature, backward), True))
            outputs = below(keyset, list(values.values()))
            if backward is None:
                return outputs
            ctx.shapes = [(o.shape, o.dtype, o.device) for o in outputs]
            ctx.scalars = {k: v for k, v in values.items() if not isinstance(v, torch.Tensor)}
            known = {**values, **{o.name: t for o, t in zip(signature.outputs, outputs, strict=True)}}
            for output in signature.outputs:
                if not signature.is_present(output, values):
                    known[output.name] = None
            ctx.save_for_backward(*(known[a.name] for a in backward.inputs if a.is_tensor and a.name in known))
            shown = list(outputs)
            silent = []
            for i, output in enumerate(signature.outputs):
                if not signature.is_present(output, wanted):
                    shown[i] = outputs[i] if outputs[i].shape == (0,) else outputs[i].new_empty((0,))
                    silent.append(shown[i])
                elif backward.input(_GRAD + output.name) is None:
                    silent.append(shown[i])
            ctx.mark_non_differentiable(*silent)
            return tuple(shown)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            backward = signatures.get(derivative)
            if backward is None:
                raise RuntimeError(_no_derivative(signature))
            # The first input is the keyset.
            return (None, *_gradients(signature, backward, ctx, grads))

    def kernel(keyset: Any, *args: Any) -> Any:
        args_ = signature.fill(args)
        if torch._C.is_grad_enabled() and torch._C._any_requires_grad(*args_):
            run: Any = Differentiable.apply
            outputs = run(keyset, *args_)
        else:
            outputs = below(keyset, args_)
        return outputs[0] if len(signature.outputs) == 1 else outputs

    return kernel


def _save_flags(signature: Signature, backward: Signature) -> list[str]:
    return [
        o.condition
        for o in signature.outputs
        if o.condition is not None and o.condition.startswith("save_") and backward.input(o.name) is not None
    ]


def _no_derivative(signature: Signature) -> str:
    name = signature.name
    if name.endswith("_backward"):
        return (
            f"{name.removesuffix('_backward')} can be differentiated once: {name} has no derivative of its own; "
            "do not pass create_graph=True through it"
        )
    return f"{name} has no derivative: there is no operation {name}_backward; call it under torch.no_grad()"


def _gradients(signature: Signature, backward: Signature, ctx: Any, grads: tuple[Any, ...]) -> list[Any]:
    saved = list(ctx.saved_tensors)
    args: list[Any] = []
    names = {a.name for a in signature.inputs} | {o.name for o in signature.outputs}
    for a in backward.inputs:
        if a.name in names:
            value = saved.pop(0) if a.is_tensor else ctx.scalars[a.name]
            if value is None and not a.optional:
                raise RuntimeError(
                    f"{backward.name}: {a.name} is missing; {signature.name} must be given it, or return it"
                )
            args.append(value)
            continue
        index = signature.output_index(a.name.removeprefix(_GRAD)) if a.name.startswith(_GRAD) else None
        if index is None:
            raise RuntimeError(
                f"{backward.name}: {a.name} is neither an input nor an output of {signature.name}, nor grad_<output>"
            )
        grad = grads[index]
        if grad is None and not a.optional:
            shape, dtype, device = ctx.shapes[index]
            grad = torch.zeros(shape, dtype=dtype, device=device)
        args.append(grad)
    result = getattr(torch.ops.mambasdk, backward.name).default(*args)
    results = result if isinstance(result, tuple) else (result,)
    gradients: list[Any] = []
    for i, a in enumerate(signature.inputs):
        if not ctx.needs_input_grad[i + 1]:
            gradients.append(None)
            continue
        index = backward.output_index(_GRAD + a.name)
        if index is None:
            raise RuntimeError(f"{signature.name} has no derivative with respect to {a.name}; call .detach() on it")
        gradients.append(results[index])
    return gradients
