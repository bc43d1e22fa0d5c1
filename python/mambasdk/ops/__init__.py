"""Compiled operations of state-space models for PyTorch tensors. Needs torch.

Every operation works in eager mode, under `torch.compile(fullgraph=True)`, in `torch.export` with dynamic shapes and
under autocast, and has gradients. Sequences are channel-last, (batch, length, channels). The same operations are
`torch.ops.mambasdk.<name>`; one that a plugin brings is reached by `call(name, …)`.
"""

from __future__ import annotations

from mambasdk.errors import require_torch

require_torch("mambasdk.ops")

from mambasdk.ops._call import call, describe, list_ops, use_reference  # noqa: E402
from mambasdk.ops.convolution import causal_conv1d, causal_conv1d_update  # noqa: E402
from mambasdk.ops.matrix_memory import MLSTMMemory, mlstm, mlstm_state_update  # noqa: E402
from mambasdk.ops.norm import layer_norm, rms_norm  # noqa: E402
from mambasdk.ops.sampling import deformable_sample  # noqa: E402
from mambasdk.ops.scan import diagonal_scan, selective_scan, selective_state_update  # noqa: E402
from mambasdk.ops.state_space_duality import ssd, ssd_state_update  # noqa: E402

__all__ = [
    "MLSTMMemory",
    "call",
    "causal_conv1d",
    "causal_conv1d_update",
    "deformable_sample",
    "describe",
    "diagonal_scan",
    "layer_norm",
    "list_ops",
    "mlstm",
    "mlstm_state_update",
    "rms_norm",
    "selective_scan",
    "selective_state_update",
    "ssd",
    "ssd_state_update",
    "use_reference",
]
