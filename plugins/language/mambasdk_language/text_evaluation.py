"""`mambasdk evaluate` of text encoders: masked tokens, classes or numbers of texts that the package did not see."""

from __future__ import annotations

import argparse
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.evaluation import Evaluation, classification
from mambasdk_language.documents import read_texts


def evaluate(args: argparse.Namespace) -> Evaluation:
    """Of the package `args.model` and the texts in `args.data`."""
    from mambasdk.command_line import torch_dtype
    from mambasdk.package import Manifest, load, load_processors
    from mambasdk_language.evaluation import encoded
    from mambasdk_language.text_training import LabelledTexts, masked_scores, outputs_of, regression_scores

    processor: Any = load_processors(args.model)["text"]
    manifest = Manifest.read(args.model)
    column = _column(args, str(manifest.head))
    reading = read_texts(args.data, args.pattern, column=args.column, raw=args.raw, label=column)
    if not args.json:
        print(f"data: {reading.summary()}")
    model: Any = load(args.model, device=args.device, dtype=torch_dtype(args.dtype)).eval()
    documents = reading.documents
    data = {"texts": len(documents), "bytes": reading.bytes, "skipped": sum(map(len, reading.skipped.values()))}
    if column is None:
        scores = masked_scores(
            model,
            [encoded(document, processor) for document in documents],
            batch=args.batch,
            context=args.context,
            rate=args.mask_rate,
            mask_token=processor.mask_token_id,
            vocab_size=model.vocab_size,
        )
        return Evaluation(scores, data=data)
    labels = (manifest.head_options or {}).get("labels") if args.label else None
    if args.label and not labels:
        raise InvalidArgumentError("the package names no labels", where=args.model)
    texts = LabelledTexts.of(documents, processor, labels, args.context)
    found = outputs_of(model, texts, args.batch)
    if labels:
        return classification(texts.targets, found.numpy(), labels, data=data)
    return Evaluation(regression_scores(texts.targets, found[:, 0].numpy()), data=data)


def _column(args: argparse.Namespace, head: str) -> str | None:
    """The column that the package's head is measured by, None for masked tokens."""
    options = {"text_classification": ("--label", args.label), "text_regression": ("--target", args.target)}
    name, column = options.get(head, (None, None))
    given = args.label or args.target
    if name is not None and column is None:
        raise InvalidArgumentError(
            f"which column has the {'class' if name == '--label' else 'number'} of a text?",
            where=args.model,
            way_out=f"name it with {name}",
        )
    if name is None and given:
        raise InvalidArgumentError(f"a package of head {head} knows no labels", where=args.model, got=given)
    return column
