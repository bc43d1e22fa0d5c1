"""A hybrid of the 130M class beside transformers' own: a prompt, and single tokens after it.

    python benchmarks/hybrid.py [--threads 2] [--prompt 512] [--steps 32] [--repeats 5] [--native]

Both have the same weights, and nothing is timed unless their logits agree. The contestants alternate; medians are
printed, with transformers' as 1. --native adds the native engine on a package of the same model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mambasdk

PATTERN = "M-M-M*-M-M-M*-M-M-M*-M-M"  # 24 layers: 11 Mamba-2, 3 attention, 10 MLP
Contestant = tuple[Callable[[], None], Callable[[], None]]  # (read the prompt, append one token)


def reference() -> Any:
    """Transformers' model with random weights."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.NemotronHConfig(
        vocab_size=50288, hidden_size=768, hybrid_override_pattern=PATTERN, num_attention_heads=12,
        num_key_value_heads=4, head_dim=64, intermediate_size=2048, mamba_num_heads=24, mamba_head_dim=64, n_groups=1,
        mlp_hidden_act="gelu", eos_token_id=None,
    )  # fmt: skip
    model = transformers.NemotronHForCausalLM(config).eval()
    for layer in model.model.layers:
        layer.mixer.time_step_limit = (0.0, float("inf"))  # its floor is not in the trained models
    return model


class Theirs:
    """Transformers with its cache."""

    def __init__(self, model: Any, prompt: torch.Tensor) -> None:
        self._model, self._tokens, self._cache = model, prompt, None

    def prompt(self) -> None:
        out = self._model(input_ids=self._tokens, use_cache=True, logits_to_keep=1)
        self._cache, self.logits = out.past_key_values, out.logits[:, -1]

    def step(self) -> None:
        token = self._tokens[:, :1]
        out = self._model(input_ids=token, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self.logits = out.logits[:, -1]


class Ours:
    """The same model in this SDK, in PyTorch."""

    def __init__(self, model: Any, prompt: torch.Tensor) -> None:
        self._model, self._tokens, self._state = model, prompt, None

    def prompt(self) -> None:
        out = self._model(self._tokens, logits_to_keep=1)
        self._state, self.logits = out.state, out.logits[:, -1]

    def step(self) -> None:
        out = self._model(self._tokens[:, :1], self._state, logits_to_keep=1)
        self._state, self.logits = out.state, out.logits[:, -1]


class Native:
    """A package of it in the native engine."""

    def __init__(self, model: Any, prompt: torch.Tensor, folder: Path) -> None:
        mambasdk.save_package(model, folder / "package", engine="native")
        self._package = mambasdk.runtime.load_package(folder / "package")
        self._tokens = prompt.to(torch.int32).numpy()

    def prompt(self) -> None:
        self._session = self._package.session()
        self._run(self._tokens)

    def step(self) -> None:
        self._run(self._tokens[:, :1])

    def _run(self, tokens: Any) -> None:
        self.logits = torch.from_numpy(self._session.run({"tokens": tokens}, ["last_logits"])["last_logits"])


def timed(run: Callable[[], None], count: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


@torch.no_grad()
def main() -> int:
    """Measure and print; 0, or 1 where the contestants do not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("threads", 2), ("prompt", 512), ("steps", 32), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--native", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mambasdk.runtime.set_num_threads(args.threads)
    theirs = reference()
    prompt = torch.randint(50288, (1, args.prompt))
    with tempfile.TemporaryDirectory() as place:
        theirs.save_pretrained(Path(place) / "checkpoint")
        ours: Any = mambasdk.import_checkpoint("hybrid", Path(place) / "checkpoint").eval()
        contestants: dict[str, Any] = {"transformers": Theirs(theirs, prompt), "mambasdk": Ours(ours, prompt)}
        if args.native:
            contestants["mambasdk native"] = Native(ours, prompt, Path(place))
        times: dict[str, dict[str, list[float]]] = {name: {"prompt": [], "token": []} for name in contestants}
        for name, one in contestants.items():
            one.prompt()
            one.step()
            error = float((one.logits - contestants["transformers"].logits).abs().max())
            if not error < 1e-3:
                print(f"{name} is not transformers' model: logits differ by {error:.2g}")
                return 1
        for _ in range(args.repeats):
            for name, one in contestants.items():
                times[name]["prompt"].append(timed(one.prompt))
                times[name]["token"].append(timed(one.step, args.steps))
    size = sum(parameter.numel() for parameter in ours.parameters()) / 1e6
    print(f"{size:.0f}M parameters, {args.threads} threads, {args.prompt} tokens")
    for what in ("prompt", "token"):
        base = statistics.median(times["transformers"][what])
        for name in contestants:
            median = statistics.median(times[name][what])
            print(f"{what:7} {name:16} {1e3 * median:9.1f} ms  {base / median:6.2f} times as fast")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
