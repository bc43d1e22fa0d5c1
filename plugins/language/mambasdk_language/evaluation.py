"""`mambasdk evaluate` of language models: perplexity, bits per token and per byte, the texts that cost most."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError, require_module
from mambasdk.evaluation import Evaluation
from mambasdk_language.corpus import Tokens
from mambasdk_language.documents import Document, read_texts
from mambasdk_language.processors import BytesProcessor, TextProcessor

_WORST = 10  # texts in the table


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the texts in `args.data`, each from a zero state."""
    from mambasdk.command_line import torch_dtype
    from mambasdk.package import load, load_processors
    from mambasdk_language.training import document_bits

    if args.window < 1:
        raise InvalidArgumentError("bad --window", expected="1 or more", got=args.window)
    processor: TextProcessor = load_processors(args.model).get("text") or BytesProcessor()
    reading = read_texts(args.data, args.pattern, column=args.column, raw=args.raw)
    if not args.json:
        print(f"data: {reading.summary()}")
    documents = reading.documents
    tokens = [encoded(document, processor) for document in documents]
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype))
    largest = max((int(each.max()) for each in tokens if len(each)), default=0)
    if largest >= model.vocab_size:
        raise InvalidArgumentError(
            f"token {largest} in the data", where=args.model, expected=f"below vocab_size {model.vocab_size}"
        )
    bits = np.asarray(document_bits(model, tokens, batch=args.batch, window=args.window))
    counts = np.asarray([len(each) for each in tokens])
    sizes = np.asarray([len(document.data) for document in documents])
    per_byte = bits / sizes
    per_token = float(bits.sum() / counts.sum())
    worst = np.argsort(-per_byte)[:_WORST]
    rows = [
        {
            "text": documents[i].name,
            "bytes": int(sizes[i]),
            "tokens": int(counts[i]),
            "bits_per_byte": float(per_byte[i]),
        }
        for i in worst
    ]
    return Evaluation(
        {
            "perplexity": math.exp(min(per_token * math.log(2), 700.0)),
            "bits_per_token": per_token,
            "bits_per_byte": float(bits.sum() / sizes.sum()),
        },
        data={
            "texts": len(documents),
            "bytes": int(sizes.sum()),
            "tokens": int(counts.sum()),
            "skipped": sum(map(len, reading.skipped.values())),
        },
        tables={"highest_bits_per_byte": rows},
        pictures={"bits_per_byte": lambda path: _draw(path, per_byte, sizes)},
    )


def encoded(document: Document, processor: TextProcessor) -> Tokens:
    """Token ids int32 (n) of a text."""
    if isinstance(processor, BytesProcessor):
        return np.frombuffer(document.data, np.uint8).astype(np.int32)
    return np.asarray(processor.encode(document.data.decode("utf-8", errors="replace")), np.int32)


def _draw(path: Path, per_byte: Any, sizes: Any) -> None:
    """How many bits per byte the texts take, weighed by their size."""
    require_module("matplotlib", "drawing", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(per_byte, bins=min(40, max(5, len(per_byte))), weights=sizes / sizes.sum(), color="#08519c")
    mean = float((per_byte * sizes).sum() / sizes.sum())
    axes.axvline(mean, color="#d94801", linestyle="--", label=f"all bytes: {mean:.3f}")
    axes.set_xlabel("bits per byte of a text")
    axes.set_ylabel("share of all bytes")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(path)
