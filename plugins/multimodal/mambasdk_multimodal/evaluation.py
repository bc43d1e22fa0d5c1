"""`mambasdk evaluate` of multimodal models: what tokens cost by modality, and the error of the noise of latents."""

from __future__ import annotations

import argparse
import math
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation
from mambasdk_multimodal.documents import encode, read_rows


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the documents in `args.data`, each from a zero state."""
    from mambasdk.command_line import torch_dtype
    from mambasdk.package import load, load_processors
    from mambasdk_multimodal.training import measure

    if args.window < 1:
        raise InvalidArgumentError("bad --window", expected="1 or more", got=args.window)
    sequences = encode(read_rows(args.data), load_processors(args.model)["document"])
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    costs = measure(model, [each for each in sequences if len(each) > 1], batch=args.batch, window=args.window)
    rows = [
        {
            "modality": name,
            "tokens": count,
            "bits_per_token": nats / count / math.log(2) if count else math.nan,
            "perplexity": math.exp(min(nats / count, 700.0)) if count else math.nan,
        }
        for name, nats, count in zip(model.config.modalities, costs.nats, costs.tokens, strict=True)
    ]
    data = {"documents": len(sequences), "tokens": sum(map(len, sequences))}
    return Evaluation(costs.metrics(model), data=data, tables={"modalities": rows})
