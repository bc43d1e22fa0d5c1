"""What of Broad Mamba helps on synthetic conversations: context, guided fusion, modalities, the broad layer.

python studies.py --out results
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generator import DIMS, MOODS, conversations, only, utterances

import mambasdk
from mambasdk_multimodal.emotion_training import EmotionTask, scores_of

# name -> (settings of the model, what becomes of the conversations)
MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "bidirectional": ({}, "whole"),
    "forward only": ({"online": True}, "whole"),
    "utterance only": ({}, "utterances"),
    "plain average": ({"confidence": "equal"}, "whole"),
    "bidirectional, trained clean": ({}, "clean"),
    "plain average, trained clean": ({"confidence": "equal"}, "clean"),
    "without broad layer": ({"bls_groups": 0}, "whole"),
    **{f"{name} alone": ({"modalities": [name], "in_dims": [dim]}, name) for name, dim in DIMS.items()},
}
# A claim: the first is better than the second.
CLAIMS = (
    ("(i) context of both sides", "bidirectional", "forward only"),
    ("(i) context", "forward only", "utterance only"),
    ("(ii) probability-guided fusion", "bidirectional", "plain average"),
    ("(ii) on corruption never seen", "bidirectional, trained clean", "plain average, trained clean"),
    *(("(iii) three modalities", "bidirectional", f"{name} alone") for name in DIMS),
    ("(iv) broad layer", "bidirectional", "without broad layer"),
)


def build(**settings: Any) -> Any:
    """A small model of the generator's modalities."""
    sizes = {"d_model": 24, "d_state": 8, "bls_groups": 4, "bls_group_width": 6, "bls_enhance": 24}
    given = {"modalities": list(DIMS), "in_dims": list(DIMS.values()), "n_classes": len(MOODS), **sizes, **settings}
    return mambasdk.create_model("merc", **given)


def trained(name: str, seed: int, steps: int, train: Any, test: Any) -> tuple[float, int]:
    """(weighted F1 on the test conversations, parameters) of a model trained from scratch."""
    settings, form = MODELS[name]
    batch = 8
    if form == "utterances":
        batch = round(batch * sum(map(len, train)) / len(train))  # as many utterances in a step
        train, test = utterances(train), utterances(test)
    elif form in DIMS:
        train, test = only(train, form), only(test, form)
    torch.manual_seed(seed)
    model = build(**settings)
    task = EmotionTask(model, train, test, MOODS, batch=batch, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        optimizer.zero_grad()
        task.loss(step)[0].backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        targets, logits, _ = task.outputs(test)
    score = scores_of(targets, logits.argmax(-1), len(MOODS))["weighted_f1"]
    return score, sum(parameter.numel() for parameter in model.parameters())


def paired_test(first: Any, second: Any) -> tuple[float, float]:
    """(mean difference, p of Student's paired test, two-sided)."""
    difference = np.asarray(first) - np.asarray(second)
    free = len(difference) - 1
    deviation = difference.std(ddof=1) if free else 0.0
    if deviation == 0:
        return float(difference.mean()), math.nan
    t = abs(difference.mean()) / (deviation / math.sqrt(free + 1))
    # The density of Student's t, integrated from t on by the substitution x = t / s, s from 0 to 1.
    s = np.linspace(0, 1, 20_001)[1:]
    scale = math.gamma((free + 1) / 2) / (math.sqrt(free * math.pi) * math.gamma(free / 2))
    density = scale * (1 + (t / s) ** 2 / free) ** (-(free + 1) / 2) * t / s**2
    return float(difference.mean()), float(min(1.0, 2 * np.trapezoid(density, s)))


def seconds_of_thousand() -> float:
    """Seconds in which the default model reads 1000 utterances, in conversations of 50."""
    model: Any = mambasdk.create_model("merc").eval()
    config = model.config
    features = {n: torch.randn(20, 50, d) for n, d in zip(config.modalities, config.in_dims, strict=True)}
    start = time.perf_counter()
    with torch.no_grad():
        model(features, torch.zeros(20, 50, dtype=torch.int64))
    return time.perf_counter() - start


def main() -> None:
    """Train all models with all seeds, and print what holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--conversations", type=int, default=200, help="to train on; half as many to test on")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    scores: dict[str, list[float]] = {name: [] for name in MODELS}
    sizes: dict[str, int] = {}
    for seed in range(args.seeds):
        train = conversations(args.conversations, 2 * seed)
        test = conversations(max(args.conversations // 2, 1), 2 * seed + 1)
        clean = conversations(args.conversations, 2 * seed, corrupted=False)
        for name, (_, form) in MODELS.items():
            seen = clean if form == "clean" else train
            score, sizes[name] = trained(name, seed, args.steps, seen, test)
            scores[name].append(score)
        print(f"seed {seed}: " + ", ".join(f"{name} {values[-1]:.3f}" for name, values in scores.items()), flush=True)
    print("\n| model | parameters | weighted F1 |\n|---|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {sizes[name]:,} | {np.mean(values):.3f} ± {np.std(values):.3f} |")
    print("\n| claim | better | than | difference | p |\n|---|---|---|---|---|")
    claims = []
    for claim, first, second in CLAIMS:
        difference, p = paired_test(scores[first], scores[second])
        claims.append({"claim": claim, "better": first, "than": second, "difference": difference, "p": p})
        print(f"| {claim} | {first} | {second} | {difference:+.3f} | {p:.2g} |")
    thousand = seconds_of_thousand()
    default = sum(p.numel() for p in mambasdk.create_model("merc").parameters())
    print(f"\n1000 utterances through the default model of {default:,} parameters: {thousand:.2f} s")
    print(f"all of it: {time.perf_counter() - start:.0f} s")
    report = {"scores": scores, "parameters": sizes, "claims": claims, "seconds_of_1000_utterances": thousand}
    (args.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
