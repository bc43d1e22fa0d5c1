"""The configuration of SSAMBA models, and the grid of patches that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mambasdk.errors import InvalidArgumentError

Pooling = Literal["ft_avgtok", "ft_cls", "ft_avgtok_1sec"]
Grid = tuple[int, int]  # patches along the frequencies, along the time
FRAMES_PER_SECOND = 100
UPSTREAM_SLOTS = 60


@dataclass
class SsambaConfig:
    """A SSAMBA model; the defaults are those of the pretrained ssamba-tiny (arXiv 2405.11831).

    embed_dim: D. depth: mixers. d_state: N. d_conv: K. expand: E = expand * D.
    input_fdim, input_tdim: mel bins and frames (10 ms each) of the input. fshape, tshape: size of a patch; fstride,
    tstride: its stride (16 to pretrain; upstream fine-tunes with 10).
    label_dim: classes of the head; 0 gives a model for pretraining, which has two prediction heads instead.
    pooling: "ft_avgtok" averages all tokens but the class token, "ft_cls" takes the class token, "ft_avgtok_1sec" gives
    logits for every second. upstream_slots: with "ft_avgtok_1sec", upstream's 60 slots of consecutive tokens, which
    are no seconds (the tokens are ordered by frequency first).
    pairs: layers go in pairs that read the same residual, the second one backwards, as all published checkpoints do;
    False runs them one after the other, as upstream's s3prl expert does (there with rms_norm=True).
    residual_double: each pair doubles the residual. norm_twice: the final norm is applied twice. Upstream does both and
    its checkpoints need them; False is for training from scratch.
    drop_path_rate: of the last layer, rising linearly from 0.
    """

    embed_dim: int = 192
    depth: int = 24
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    input_fdim: int = 128
    input_tdim: int = 1024
    fshape: int = 16
    tshape: int = 16
    fstride: int = 16
    tstride: int = 16
    label_dim: int = 0
    pooling: Pooling = "ft_avgtok"
    upstream_slots: bool = False
    pairs: bool = True
    residual_double: bool = True
    norm_twice: bool = True
    rms_norm: bool = False
    divide_out: bool = True
    norm_epsilon: float = 1e-5
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("embed_dim", "depth", "d_state", "d_conv", "expand", "fshape", "tshape", "fstride", "tstride"):
            self._check(name, 1)
        self._check("label_dim", 0)
        for size, patch in (("input_fdim", "fshape"), ("input_tdim", "tshape")):
            self._check(size, 1)
            if getattr(self, size) < getattr(self, patch):
                raise InvalidArgumentError(
                    f"{size} {getattr(self, size)} holds no patch",
                    where="SsambaConfig",
                    expected=f"{patch} ({getattr(self, patch)}) or more",
                    way_out="pad the input: FbankProcessor(target_length=…)",
                )
        if self.pooling not in get_args(Pooling):
            raise InvalidArgumentError(
                "bad pooling", where="SsambaConfig", expected=" or ".join(get_args(Pooling)), got=repr(self.pooling)
            )
        if self.pairs and self.depth % 2:
            raise InvalidArgumentError("odd depth", where="SsambaConfig", expected="pairs of layers", got=self.depth)
        if self.upstream_slots and self.label_dim and 1 + self.patches < UPSTREAM_SLOTS:
            raise InvalidArgumentError(
                "upstream_slots with too few tokens",
                where="SsambaConfig",
                expected=f"{UPSTREAM_SLOTS} or more",
                got=1 + self.patches,
                way_out="give a longer input_tdim, or upstream_slots=False",
            )

    @property
    def grid(self) -> Grid:
        """Patches along the frequencies and along the time, (P_f, P_t); what does not fill a patch is cut off."""
        return (
            (self.input_fdim - self.fshape) // self.fstride + 1,
            (self.input_tdim - self.tshape) // self.tstride + 1,
        )

    @property
    def patches(self) -> int:
        """P = P_f * P_t; the class token is one more."""
        return self.grid[0] * self.grid[1]

    @property
    def seconds(self) -> list[Grid]:
        """Columns of the grid, [first, end), of every second: those whose middle lies in it."""
        middles = [column * self.tstride + self.tshape / 2 for column in range(self.grid[1])]
        of_column = [int(middle // FRAMES_PER_SECOND) for middle in middles]
        return [
            (of_column.index(second), len(of_column) - of_column[::-1].index(second))
            for second in sorted(set(of_column))
        ]

    def _check(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidArgumentError(
                f"bad {name}", where="SsambaConfig", expected=f"an integer of {least} or more", got=repr(value)
            )
