"""Continuing a document: the tokens of every modality one by one, and images of latents in between. Imports no torch
unless a model in PyTorch is run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mambasdk.errors import InvalidArgumentError, PackageError
from mambasdk.package.manifest import Manifest
from mambasdk.package.reader import load_processors
from mambasdk_language.decoding import NativeDecoder, TorchDecoder
from mambasdk_language.sampling import GenerationOptions
from mambasdk_language.token_run import TokenRun

if TYPE_CHECKING:
    from torch import Tensor


def continue_document(
    package: str | os.PathLike[str], document: Mapping[str, Any], *, engine: str = "auto", **options: Any
) -> list[dict[str, Any]]:
    """Segments that follow a document, as the package `package` of discrete tokens writes them.

    document: as the processor reads it. engine: "native", "torch" or "auto" (native where the package has a program).
    options: max_new_tokens (128), temperature, top_k, top_p, min_p, repetition_penalty, seed, as of text.
    Each segment has "modality" and "tokens", and "text" where the modality is that of the package's text processor,
    the first. Raises InvalidArgumentError, PackageError.
    """
    manifest = Manifest.read(package)
    processors = load_processors(package)
    if (reader := processors.get("document")) is None:
        raise PackageError("the package reads no documents", where=str(package))
    names, ends = reader.options["modalities"], reader.options["ranges"]
    if reader.options.get("latent_dim"):
        raise InvalidArgumentError(
            "its images are latent vectors", where=str(package), way_out="mambasdk_multimodal.generation.draw_image"
        )
    prompt = reader(document)["tokens"][0].tolist()
    if not prompt:
        raise InvalidArgumentError("the document has no tokens", where="generate", way_out="give at least one")
    decoder: Any
    if engine == "torch" or (engine == "auto" and manifest.engine["name"] != "native"):
        from mambasdk.package import load

        decoder = TorchDecoder(load(package))
    else:
        from mambasdk import runtime

        decoder = NativeDecoder(runtime.load_package(package))
    defaults = {name: value for name, value in (manifest.head_options or {}).items() if name != "context"}
    run = TokenRun(decoder, [prompt], GenerationOptions.of(options, defaults), frozenset())
    made = [token for _, token in run.tokens()]
    return segments(made, names, ends, processors.get("text"))


def segments(
    tokens: Sequence[int], names: Sequence[str], ends: Sequence[int], text: Any = None
) -> list[dict[str, Any]]:
    """Token ids as segments of one modality each, numbered from 0 in their modality.

    text: the processor of the first modality's text, which then is there too.
    """
    found: list[dict[str, Any]] = []
    starts = [0, *ends]
    for token in tokens:
        modality = next((m for m, end in enumerate(ends) if token < end), len(ends) - 1)
        if not found or found[-1]["modality"] != names[modality]:
            found.append({"modality": names[modality], "tokens": []})
        found[-1]["tokens"].append(int(token) - starts[modality])
    for segment in found:
        if text is not None and segment["modality"] == names[0]:
            decoder = text.decoder()
            segment["text"] = "".join(map(decoder.push, segment["tokens"])) + decoder.finish()
    return found


def draw_image(
    model: Any,
    tokens: Tensor,
    patches: int,
    *,
    latents: Tensor | None = None,
    steps: int = 50,
    limit: float | None = 4.0,
    seed: int = 0,
) -> Tensor:
    """Latent vectors (B, patches, P) of an image that follows `tokens` (B, L), by deterministic denoising.

    model: a multimodal model with latents, in PyTorch. latents: (B, L, P), those among the tokens, clean. steps: of the
    way from noise to the image (arXiv 2010.02502, with eta 0). limit: what no number of the image exceeds on the way,
    for latents of deviation 1; None for none. The prefix is read once; each step reads the image
    alone, from the state after the prefix. Raises InvalidArgumentError for a model without latents.
    """
    import torch

    from mambasdk_multimodal.diffusion import denoised

    config = model.config
    if not config.latent_dim:
        raise InvalidArgumentError("a model without latent vectors draws no image", where="draw_image")
    if steps < 1 or patches < 1:
        raise InvalidArgumentError("bad steps or patches", where="draw_image", expected="1 or more")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    batch = tokens.shape[0]
    image = torch.randn(batch, patches, config.latent_dim, generator=generator).to(device)
    places = torch.full((batch, patches), config.latent_token, dtype=torch.int64, device=device)
    times = torch.linspace(config.diffusion_steps, 0, steps + 1, device=device)
    training = model.training
    model.eval()
    with torch.no_grad():
        state = model(tokens, latents=latents).state
        for now, then in itertools.pairwise(times):
            level = now.expand(batch, patches)
            noise = model(places, state, latents=image, times=level).noise
            image = denoised(image, noise.float(), level, then.expand_as(level), config.diffusion_steps, limit)
    model.train(training)
    return image
