"""Models by name: the registry of families and variants, building, and import of upstream checkpoints."""

from mambasdk.models.checkpoint import RANK_PREFIX, Checkpoint
from mambasdk.models.create import build, create_model, import_checkpoint
from mambasdk.models.identity import Identity, identity
from mambasdk.models.registry import find_model, list_models
from mambasdk.models.upstream import (
    UpstreamConfig,
    config_where,
    layer_count,
    renamed,
    require,
    require_known,
    require_sizes,
    require_tensors,
)
from mambasdk.plugins.specs import FamilySpec

__all__ = [
    "RANK_PREFIX",
    "Checkpoint",
    "FamilySpec",
    "Identity",
    "UpstreamConfig",
    "build",
    "config_where",
    "create_model",
    "find_model",
    "identity",
    "import_checkpoint",
    "layer_count",
    "list_models",
    "renamed",
    "require",
    "require_known",
    "require_sizes",
    "require_tensors",
]
