"""The mLSTM mixer and the block of Vision-LSTM around it. Sources: arXiv 2405.04517, 2406.04303.

Parameter names are those of the published checkpoints, whose norms keep what their weights differ from 1 by.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input, is_single_step
from mambasdk.nn.norm import ResidualLayerNorm
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import accumulate_dtype
from mambasdk.nn.state import register_layer_state


@register_layer_state("mlstm")
class MLSTMState(NamedTuple):
    """State of one mLSTM mixer. conv: the last K-1 inputs of the convolution, oldest first; C, n, m: the memory's."""

    conv: Tensor  # (B, K-1, I)
    C: Tensor  # (B, H, E, E) float32, in units of exp(m)
    n: Tensor  # (B, H, E) float32, in units of exp(m)
    m: Tensor  # (B, H) float32


class BlockDiagonalLinear(nn.Module):
    """A dense layer without a bias whose matrix has square blocks along its diagonal.

    weight: (D / block_size, block_size, block_size), a block's rows are its outputs.
    """

    def __init__(self, dim: int, block_size: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim // block_size, block_size, block_size, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """X (…, D) -> (…, D)."""
        blocks = torch.unflatten(x, -1, self.weight.shape[:2])  # (…, D / s, s)
        return torch.einsum("...bi,boi->...bo", blocks, self.weight).flatten(-2)


class _Convolution(nn.Module):
    """The convolution by the name that it has in checkpoints."""

    def __init__(self, channels: int, width: int, **factory: Any) -> None:
        super().__init__()
        self.conv = CausalConv1d(channels, width, silu=True, **factory)


class _Cell(nn.Module):
    """Gates and norm around the operation, by the names that they have in checkpoints."""

    def __init__(self, channels: int, heads: int, **factory: Any) -> None:
        super().__init__()
        self.igate = nn.Linear(3 * channels, heads, **factory)
        self.fgate = nn.Linear(3 * channels, heads, **factory)
        self.outnorm = ResidualLayerNorm(channels, channels // heads, **factory)

    def gates(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """Both gates (…, H) before their functions, from q, k and v (…, I); float32, whatever the parts are."""
        device = parts[0].device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.gates(*parts)
        weight = accumulate_dtype(torch.cat([self.igate.weight, self.fgate.weight]))  # (2H, 3I)
        total = accumulate_dtype(torch.cat([self.igate.bias, self.fgate.bias]))
        for part, own in zip(parts, weight.chunk(3, -1), strict=True):
            total = total + functional.linear(accumulate_dtype(part), own)
        igate, fgate = total.chunk(2, -1)
        return igate, fgate


class MLSTM(nn.Module):
    """Causal sequence mixer (B, L, D) -> (B, L, D) with a matrix for a memory.

    d_model: D. expand: I = expand * D channels inside. d_conv: K. num_heads: H, None is 4, or 2 where D is no multiple
        of 4. block_size: of the blocks of q_proj, k_proj and v_proj, None is the same number. chunk: steps that the
        operation computes together.
    The gates and the memory compute in float32 whatever the dtype of the module.
    Sources: arXiv 2405.04517, figure 10; arXiv 2406.04303.
    """

    def __init__(
        self,
        d_model: int,
        expand: float = 2,
        d_conv: int = 4,
        num_heads: int | None = None,
        block_size: int | None = None,
        *,
        chunk: int = 64,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        usual = 4 if d_model % 4 == 0 else 2
        self.d_model = d_model
        self.d_inner = int(expand * d_model)
        self.d_conv = d_conv
        self.num_heads = usual if num_heads is None else num_heads
        self.chunk = chunk
        block = usual if block_size is None else block_size
        for name, size in (("num_heads", self.num_heads), ("block_size", block)):
            if size < 1 or self.d_inner % size:
                raise InvalidArgumentError(
                    f"bad {name}", where="MLSTM", expected=f"a divisor of {self.d_inner} channels", got=size
                )
        self.proj_up = nn.Linear(d_model, 2 * self.d_inner, bias=False, **factory)
        self.q_proj = BlockDiagonalLinear(self.d_inner, block, **factory)
        self.k_proj = BlockDiagonalLinear(self.d_inner, block, **factory)
        self.v_proj = BlockDiagonalLinear(self.d_inner, block, **factory)
        self.conv1d = _Convolution(self.d_inner, d_conv, **factory)
        self.mlstm_cell = _Cell(self.d_inner, self.num_heads, **factory)
        self.learnable_skip = nn.Parameter(torch.ones(self.d_inner, **factory))
        self.proj_down = nn.Linear(self.d_inner, d_model, bias=False, **factory)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The initialisation of the paper's code: small normal projections, forget gates that keep."""
        small = math.sqrt(2 / (5 * self.d_model))
        for layer in (self.proj_up, self.q_proj, self.k_proj, self.v_proj):
            nn.init.normal_(layer.weight, std=small)
        nn.init.normal_(self.proj_down.weight, std=2 / math.sqrt(self.d_model))
        cell = self.mlstm_cell
        for gate in (cell.igate, cell.fgate):
            nn.init.zeros_(gate.weight)
        nn.init.normal_(cell.igate.bias, std=0.1)
        cell.fgate.bias.copy_(torch.linspace(3, 6, self.num_heads))
        nn.init.ones_(self.learnable_skip)
        nn.init.zeros_(cell.outnorm.weight)
        self.conv1d.conv.reset_parameters()

    def initial_state(self, batch_size: int) -> MLSTMState:
        """The zero state. A call without a state begins with m = -inf in place of 0, a factor within 1e-6 of 1."""
        weight, width = self.proj_up.weight, self.d_inner // self.num_heads
        memory = accumulate_dtype(weight)
        return MLSTMState(
            weight.new_zeros(batch_size, self.d_conv - 1, self.d_inner),
            memory.new_zeros(batch_size, self.num_heads, width, width),
            memory.new_zeros(batch_size, self.num_heads, width),
            memory.new_zeros(batch_size, self.num_heads),
        )

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: MLSTMState | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Y (B, L, D); with `return_state`, (y, state after the last step). L may be 0.

        state, mask, cu_seqlens: as of `Mamba2.forward`. Raises ShapeError.
        """
        check_input(x, self.d_model, "MLSTM")
        packing = Packing.of(mask, x, "MLSTM", cu_seqlens)
        if packing is not None:
            return packing.run(self.forward, x, state, return_state)
        u, z = self.proj_up(x).chunk(2, -1)  # (B, L, I)
        if state is not None and is_single_step(x) and cu_seqlens is None:
            y, new_state = self._step(u, state)
        else:
            y, new_state = self._sequence(u, state, cu_seqlens, return_state)
        out = self.proj_down(y * functional.silu(z))
        return (out, new_state) if return_state else out

    def _sequence(
        self, u: Tensor, state: MLSTMState | None, cu_seqlens: Tensor | None, return_state: bool
    ) -> tuple[Tensor, MLSTMState | None]:
        """What the gate gets (B, L, I) of u (B, L, I), and the state after it where it is wanted."""
        before = None if state is None else state.conv
        c = self.conv1d.conv(u, before, return_state=return_state, cu_seqlens=cu_seqlens)
        if return_state:
            c, conv = c
        h = ops.mlstm(
            **self._inputs(u, c),
            initial_state=None if state is None else (state.C, state.n, state.m),
            return_final_state=return_state,
            cu_seqlens=cu_seqlens,
            chunk=self.chunk,
        )
        if not return_state:
            return self._with_skip(h, c), None
        h, memory = h
        return self._with_skip(h, c), MLSTMState(conv, *memory)

    def _step(self, u: Tensor, state: MLSTMState) -> tuple[Tensor, MLSTMState | None]:
        """One token without gradients: u (B, 1, I)."""
        u = u.squeeze(1)
        c, conv = self.conv1d.conv.step(u, state.conv)
        h, memory = ops.mlstm_state_update((state.C, state.n, state.m), **self._inputs(u, c))
        return self._with_skip(h, c).unsqueeze(1), MLSTMState(conv, *memory)

    def _inputs(self, u: Tensor, c: Tensor) -> dict[str, Tensor]:
        """What the operation takes of u and of the convolution's output c, both (…, I)."""
        q, k, v = self.q_proj(c), self.k_proj(c), self.v_proj(u)
        igate, fgate = self.mlstm_cell.gates(q, k, v)  # (…, H)
        heads = (self.num_heads, self.d_inner // self.num_heads)
        q, k, v = (torch.unflatten(part, -1, heads) for part in (q, k, v))  # (…, H, E)
        return {"q": q, "k": k, "v": v, "igate": igate, "fgate": fgate}

    def _with_skip(self, h: Tensor, c: Tensor) -> Tensor:
        """The normed heads (…, H, E), and past them the convolution's output (…, I)."""
        normed: Tensor = self.mlstm_cell.outnorm(h.flatten(-2))
        return normed + self.learnable_skip * c


class ViLBlock(nn.Module):
    """`x + layer(norm(x))` of an `MLSTM` (arXiv 2406.04303), in the order that the sequence has.

    d_model: D. options: of the `MLSTM`.
    """

    def __init__(self, d_model: int, *, device: Any = None, dtype: Any = None, **options: Any) -> None:
        super().__init__()
        self.norm = ResidualLayerNorm(d_model, device=device, dtype=dtype)
        self.layer = MLSTM(d_model, device=device, dtype=dtype, **options)

    def initial_state(self, batch_size: int) -> MLSTMState:
        """The zero state of the layer."""
        return self.layer.initial_state(batch_size)

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: MLSTMState | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Y (B, L, D); with `return_state`, (y, state after the last step). What a mask leaves out stays as it is."""
        out = self.layer(self.norm(x), state, return_state=return_state, mask=mask, cu_seqlens=cu_seqlens)
        if not return_state:
            return x + out
        h, new_state = out
        return x + h, new_state
