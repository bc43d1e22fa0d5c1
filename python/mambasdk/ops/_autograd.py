"""Gradients by naming convention: operation `X_backward` is the derivative of `X`.

Its arguments are `grad_<output>`, and inputs and outputs of `X` under their own names; its outputs are `grad_<input>`.
An output that `X_backward` takes and that `X` makes only when a flag `save_<output>` is set is made whenever a gradient
will be needed, and not shown to a caller who did not ask for it.

`torch.func` works in reverse mode (grad, vjp, jacrev) and under vmap, which runs one call for each entry of the mapped
dim. Forward mode and second derivatives are refused by name: an operation brings one derivative, a product with its
transposed Jacobian.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad

from mambasdk.ops._failure import typed
from mambasdk.ops._forward_mode import refuse_forward_mode
from mambasdk.ops._signature import Argument, Binding, Signature

_GRAD = "grad_"


def autograd_kernel(op: Any, signature: Signature, signatures: Mapping[str, Signature]) -> Any:
    """The kernel of `op` for the Autograd key. `signatures` is looked up at each call: derivatives may come later."""
    derivative = f"{signature.name}_backward"
    pairs: list[_Pair] = []  # the one with the derivative, once there is one

    def pair() -> _Pair | None:
        backward = signatures.get(derivative)
        if backward is None:
            return None
        if not pairs or pairs[0].backward is not backward:
            pairs[:] = [_Pair(signature, backward)]
        return pairs[0]

    @typed
    def below(keyset: Any, args: list[Any]) -> tuple[torch.Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            result = op.redispatch(keyset & torch._C._after_autograd_keyset, *args)
        return result if isinstance(result, tuple) else (result,)

    def lower(keyset: Any, args: list[Any]) -> tuple[torch.Tensor, ...]:
        if not torch._C._are_functorch_transforms_active():
            return below(keyset, args)
        # Function.forward runs without gradients and tangents, which the levels below this one may want.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
            return below(keyset, args)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> tuple[torch.Tensor, ...]:
            ctx.set_materialize_grads(False)
            of = pair()
            if of is None:
                return lower(keyset, list(args))
            wanted = dict(zip(of.inputs, args, strict=True))
            values = {**wanted, **of.save_flags}
            outputs = lower(keyset, list(values.values()))
            ctx.shapes = [(o.shape, o.dtype, o.device) for o in outputs]
            ctx.scalars = {k: v for k, v in values.items() if not isinstance(v, torch.Tensor)}
            known = {**values, **dict(zip(of.outputs, outputs, strict=True))}
            for output in of.conditional:
                if not signature.is_present(output, values):
                    known[output.name] = None
            ctx.save_for_backward(*(known[name] for name in of.saved))
            shown = list(outputs)
            silent = [outputs[i] for i in of.without_gradient]
            for i, output in of.switched:
                if not signature.is_present(output, wanted):
                    shown[i] = outputs[i] if outputs[i].shape == (0,) else outputs[i].new_empty((0,))
                    silent.append(shown[i])
                elif output.name not in of.takes_gradient:
                    silent.append(shown[i])
            ctx.mark_non_differentiable(*silent)
            return tuple(shown)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            of = pair()
            if of is None:
                raise RuntimeError(_no_derivative(signature))
            # The first input is the keyset.
            return (None, *_gradients(of, ctx, grads))

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            refuse_forward_mode(signature.name, derivative in signatures)

    def differentiable(keyset: Any, args: list[Any]) -> tuple[torch.Tensor, ...]:
        run: Any = Differentiable.apply
        if torch._C._are_functorch_transforms_active():
            # This kernel already runs on one level of the transforms, so Function.apply must not start them again.
            run = super(torch.autograd.Function, Differentiable).apply
            with enable_single_level_autograd_function():
                outputs: tuple[torch.Tensor, ...] = run(keyset, *args)
        else:
            outputs = run(keyset, *args)
        return outputs

    def kernel(keyset: Any, *args: Any) -> Any:
        args_ = signature.fill(args)
        # Tangents flow whatever the gradient mode is.
        if (torch._C.is_grad_enabled() and torch._C._any_requires_grad(*args_)) or forward_ad._current_level >= 0:
            outputs = differentiable(keyset, args_)
        else:
            outputs = below(keyset, args_)
        return outputs[0] if len(signature.outputs) == 1 else outputs

    return kernel


def vmap_rule(op: Any, signature: Signature) -> Any:
    """What `torch.func.vmap` does with `op`: one call for each entry of the mapped dim, the results stacked."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        def entry(i: int) -> list[Any]:
            return [a if d is None else a.select(d, i) for a, d in zip(args, in_dims, strict=True)]

        if info.batch_size > 0:
            results = [op(*entry(i)) for i in range(info.batch_size)]
            rows = [r if isinstance(r, tuple) else (r,) for r in results]
            stacked = tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
        else:
            stacked = _no_entries(signature, in_dims, args)
        return (stacked[0], 0) if len(stacked) == 1 else (stacked, (0,) * len(stacked))

    return rule


def _no_entries(signature: Signature, in_dims: tuple[int | None, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
    one = tuple(
        a if d is None else a.new_empty([n for i, n in enumerate(a.shape) if i != d])
        for a, d in zip(args, in_dims, strict=True)
    )
    binding = Binding(signature, signature.named(one))
    like = binding.tensors[0][1]
    return tuple(like.new_empty((0, *plan.shape), dtype=plan.dtype) for plan in binding.plan())


class _Pair:
    """An operation and its derivative: what their names say about each other, read once."""

    def __init__(self, signature: Signature, backward: Signature) -> None:
        self.signature, self.backward = signature, backward
        self.inputs = [a.name for a in signature.inputs]
        self.outputs = [o.name for o in signature.outputs]
        names = {*self.inputs, *self.outputs}
        self.save_flags = {
            o.condition: True
            for o in signature.outputs
            if o.condition is not None and o.condition.startswith("save_") and backward.input(o.name) is not None
        }
        self.saved = [a.name for a in backward.inputs if a.is_tensor and a.name in names]
        self.conditional = [o for o in signature.outputs if o.condition is not None]
        self.without_gradient: list[int] = []  # outputs that the derivative takes no gradient of, and always there
        self.switched: list[tuple[int, Argument]] = []  # outputs that may be absent
        for i, output in enumerate(signature.outputs):
            if output.condition is not None:
                self.switched.append((i, output))
            elif backward.input(_GRAD + output.name) is None:
                self.without_gradient.append(i)
        # Of each argument of the derivative: whether it is an input or output of the operation, else whose gradient.
        self.sources = [
            (a, a.name in names, signature.output_index(a.name.removeprefix(_GRAD)))
            if a.name in names or a.name.startswith(_GRAD)
            else (a, False, None)
            for a in backward.inputs
        ]
        self.gradients = [backward.output_index(_GRAD + name) for name in self.inputs]
        self.takes_gradient = {o.name for o in signature.outputs if backward.input(_GRAD + o.name) is not None}


def _no_derivative(signature: Signature) -> str:
    name = signature.name
    if name.endswith("_backward"):
        return (
            f"{name.removesuffix('_backward')} can be differentiated once: {name} has no derivative of its own; "
            "do not pass create_graph=True through it"
        )
    return f"{name} has no derivative: there is no operation {name}_backward; call it under torch.no_grad()"


def _gradients(of: _Pair, ctx: Any, grads: tuple[Any, ...]) -> list[Any]:
    saved = iter(ctx.saved_tensors)
    args: list[Any] = []
    for a, is_known, index in of.sources:
        if is_known:
            value = next(saved) if a.is_tensor else ctx.scalars[a.name]
            if value is None and not a.optional:
                raise RuntimeError(
                    f"{of.backward.name}: {a.name} is missing; {of.signature.name} must be given it, or return it"
                )
            args.append(value)
            continue
        if index is None:
            raise RuntimeError(
                f"{of.backward.name}: {a.name} is neither an input nor an output of {of.signature.name}, "
                "nor grad_<output>"
            )
        grad = grads[index]
        if grad is None and not a.optional:
            shape, dtype, device = ctx.shapes[index]
            grad = torch.zeros(shape, dtype=dtype, device=device)
        args.append(grad)
    result = getattr(torch.ops.mambasdk, of.backward.name).default(*args)
    results = result if isinstance(result, tuple) else (result,)
    gradients: list[Any] = []
    for i, (name, index) in enumerate(zip(of.inputs, of.gradients, strict=True)):
        if not ctx.needs_input_grad[i + 1]:
            gradients.append(None)
            continue
        if index is None:
            raise RuntimeError(f"{of.signature.name} has no derivative with respect to {name}; call .detach() on it")
        gradients.append(results[index])
    return gradients
