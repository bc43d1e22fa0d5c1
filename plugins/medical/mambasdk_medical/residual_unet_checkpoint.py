"""What the importers of residual U-Nets share: sizes of any of three forms, and tensors without their aliases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, require_known
from mambasdk_medical.nn.residual_unet_config import Placement, ResidualUNetConfig
from mambasdk_medical.plans import NetworkPlan
from mambasdk_medical.plans.upstream import network_plan

_RESOLVED = (
    "patch_size",
    "in_channels",
    "num_classes",
    "strides",
    "kernel_sizes",
    "features_per_stage",
    "n_conv_per_stage",
    "n_conv_per_stage_decoder",
    "deep_supervision",
)
_PLANS = ("plans", "configuration", "dataset")
_FACTS = ("patch", "cin", "ncls", "strides", "kernels", "base", "maxf", "nenc", "ndec")
# What may stand beside the facts: the family, the placement, the dimensions, which the importer or the patch says too.
_BESIDE = ("fam", "kind", "dim")


def unet_settings(config: Mapping[str, Any], extra: Collection[str] = ()) -> dict[str, Any]:
    """Overrides of a residual U-Net's configuration from what is known of a checkpoint, in one of three forms.

    - `{"plans": …, "configuration": "3d_fullres", "dataset": …}`: what is in `plans.json` and `dataset.json` beside an
      nnU-Net checkpoint, and which of the plan's configurations it is of.
    - resolved: fields of `ResidualUNetConfig` by their names, as `for_plan` gives them.
    - constructor facts: `patch`, `cin`, `ncls`, `strides`, `kernels`, `base`, `maxf`, `nenc`, `ndec`: widths double
      from base to maxf; blocks of every stage and step.

    extra: names of the family's other fields, which any form may have beside.
    Raises CheckpointError, and InvalidArgumentError for files of a plan that say too little.
    """
    own = {name: config[name] for name in extra if name in config}
    if "plans" in config:
        require_known(config, {*_PLANS, "kind", "placement", *extra})
        plan = network_plan(config["plans"], config["configuration"], config["dataset"])
        return {**ResidualUNetConfig.for_plan(plan), **own}
    if "patch" in config:
        require_known(config, {*_FACTS, *_BESIDE, *extra})
        return {**ResidualUNetConfig.for_plan(_facts(config)), **own}
    require_known(
        config,
        {*_RESOLVED, "kind", "placement", *extra},
        'give {"plans": …, "configuration": …, "dataset": …} of an nnU-Net checkpoint, or fields of the configuration',
    )
    for name in ("patch_size", "in_channels", "num_classes", "features_per_stage"):
        if name not in config:
            raise CheckpointError(f"no {name}", where="the configuration", expected=" or ".join((_PLANS[0], name)))
    return {**{name: config[name] for name in _RESOLVED if name in config}, **own}


def _facts(config: Mapping[str, Any]) -> NetworkPlan:
    strides: Sequence[Sequence[int]] = config["strides"]
    count = len(strides)
    return NetworkPlan(
        patch_size=tuple(config["patch"]),
        in_channels=config["cin"],
        num_classes=config["ncls"],
        strides=tuple(tuple(one) for one in strides),
        kernel_sizes=tuple(tuple(one) for one in config["kernels"]),
        features_per_stage=tuple(min(config["base"] << stage, config["maxf"]) for stage in range(count)),
        n_conv_per_stage=(config["nenc"],) * count,
        n_conv_per_stage_decoder=(config["ndec"],) * (count - 1),
    )


def unet_tensors(weights: Checkpoint) -> Checkpoint:
    """The tensors, each once: files repeat a block's convolution and norm as `all_modules.*`, and the whole encoder
    below the decoder.
    """
    return weights.rename(lambda name: None if ".all_modules." in name or name.startswith("decoder.encoder.") else name)


def placement(config: Mapping[str, Any], weights: Checkpoint, *, bot: str, enc: str) -> Placement:
    """Where the file's layers of tokens are. bot, enc: what their names begin with.

    Raises CheckpointError where there are none, or the configuration says otherwise.
    """
    found: dict[Placement, bool] = {
        "bot": any(name.startswith(bot) for name in weights),
        "enc": any(name.startswith(enc) for name in weights),
    }
    if found["bot"] == found["enc"]:
        raise CheckpointError(
            "layers of tokens in both places" if found["bot"] else "no layer of tokens",
            where=weights.where,
            expected=f"tensors of either {bot}* or {enc}*",
        )
    place: Placement = "bot" if found["bot"] else "enc"
    said = config.get("placement", config.get("kind"))
    if said is not None and str(said).lower() != place:
        raise CheckpointError(
            f"the configuration says {said!r}", where=weights.where, expected=repr(place), got=repr(said)
        )
    return place
