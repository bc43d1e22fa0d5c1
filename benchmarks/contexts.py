"""A hybrid and a Transformer of equal parameters by the length of the text before: tokens a second, memory a sequence.

    cd benchmarks && python contexts.py --out results/contexts.json --plot results/contexts.png

Both are patterns of the family `hybrid` in the native engine, float32, scaled from the 8B models of arXiv 2406.07887:
an eighth of the width, a quarter of the depth, 7 % of the hybrid's layers attention with 4 heads to a pair of keys and
values; the Transformer has attention and MLP in turn, with keys and values for each head. Its cache takes 32 times the
hybrid's, as there. The paper predicts that the hybrid generates "up to 8x" as fast.

A text of n tokens is not read: the caches are filled with n columns of random numbers, which takes the same time to
attend to. Measured are single tokens after it (decode), and the last 512 tokens of a prompt of that length (prefill).
The models alternate; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

import mambasdk
from mambasdk import runtime
from mambasdk_language.families.hybrid.pattern import allocate

HYBRID, TRANSFORMER = "hybrid", "transformer"
PREDICTED = 8.0  # arXiv 2406.07887, abstract
CONTEXTS = tuple(1024 << n for n in range(8))  # 1K to 128K
Row = dict[str, Any]


def models(d_model: int, blocks: int, vocab_size: int) -> dict[str, Any]:
    """The hybrid, and the Transformer whose MLPs are as wide as makes their parameters equal."""
    heads = d_model // 64
    common = {"d_model": d_model, "vocab_size": vocab_size, "num_heads": heads, "tie_embeddings": True}
    pattern = allocate(blocks * 7 // 4, 0.08, 0.5)  # 56 layers to 32 blocks
    hybrid: Any = mambasdk.create_model(
        "hybrid", **common, pattern=pattern, d_mlp=4 * d_model, d_state=128, ngroups=1, num_kv_heads=max(1, heads // 4)
    ).eval()

    def transformer(d_mlp: int) -> Any:
        shape = {"pattern": "*-" * blocks, "num_kv_heads": heads, "d_mlp": d_mlp}
        made = mambasdk.create_model("hybrid", **common, **shape, mlp_activation="squared_relu", rotary_dim=32)
        return made.eval()

    missing = parameters(hybrid) - parameters(transformer(4 * d_model))
    return {HYBRID: hybrid, TRANSFORMER: transformer(4 * d_model + round(missing / (2 * d_model * blocks)))}


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class Decoder:
    """A session of a model, whose state can be made as long as wanted."""

    def __init__(self, model: Any, folder: Path) -> None:
        mambasdk.save_package(model, folder, engine="native", golden=False)
        self._session = runtime.load_package(folder).session()
        self._saved, self._growing = b"", {}
        shapes = []
        for _ in range(2):  # what a second token lengthens is a cache
            self.read(1)
            self._saved = self._session.save()
            shapes.append({name: each["shape"] for name, each in _header(self._saved)[0].items() if "shape" in each})
        for name, shape in shapes[1].items():
            if shape != shapes[0][name]:
                self._growing[name] = [a == b for a, b in zip(shape, shapes[0][name], strict=True)].index(False)

    def read(self, count: int) -> None:
        """The next tokens, at once."""
        self._session.run({"tokens": np.full((1, count), 5, np.int32)}, ["last_logits"])

    def fill(self, columns: int) -> None:
        """The state after that many tokens: caches of random numbers, the recurrent states as they were."""
        self._session.reset()
        self._session.restore(self._image(columns))

    def state_bytes(self, columns: int) -> int:
        """Of the state's tensors after that many tokens."""
        return sum(math.prod(self._shape(name, each, columns)) * 4 for name, each in self._tensors())

    def session_bytes(self) -> int:
        """What the session holds for states: two of each that does not grow, and room ahead."""
        return int(self._session.memory()["states"])

    def _tensors(self) -> list[tuple[str, Any]]:
        return [(name, each) for name, each in _header(self._saved)[0].items() if name != "__metadata__"]

    def _shape(self, name: str, each: Any, columns: int) -> list[int]:
        shape = list(each["shape"])
        if name in self._growing:
            shape[self._growing[name]] = columns
        return shape

    def _image(self, columns: int) -> bytes:
        """A saved state (safetensors) with caches of that many columns."""
        header, start = _header(self._saved)
        noise = np.random.default_rng(0)
        pieces: list[Any] = []
        written = 0
        for name, each in self._tensors():
            if each["dtype"] != "F32":
                raise ValueError(f"state {name} is {each['dtype']}, expected F32")
            before, after = (start + offset for offset in each["data_offsets"])
            each["shape"] = shape = self._shape(name, each, columns)
            size = 4 * math.prod(shape)
            if name in self._growing:
                if math.prod(shape[: self._growing[name]]) != 1:
                    raise ValueError(f"cache {name} is {shape}, expected a batch of 1")
                column = size // columns
                block = noise.standard_normal((min(columns, 1024), column // 4), dtype=np.float32).tobytes()
                pieces += [block] * (size // len(block)) + [memoryview(block)[: size % len(block)]]
            else:
                pieces.append(memoryview(self._saved)[before:after])
            each["data_offsets"] = [written, written + size]
            header[name] = each
            written += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return b"".join([struct.pack("<Q", len(text)), text, *pieces])


def _header(image: bytes) -> tuple[Row, int]:
    """The description of a safetensors image, and where its data begin."""
    (size,) = struct.unpack_from("<Q", image)
    return json.loads(image[8 : 8 + size]), 8 + size


def main(argv: Sequence[str] | None = None) -> Row:
    """Measure, print, and give what is written as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 2), ("rounds", 3), ("steps", 8), ("chunk", 512)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    parser.add_argument("--d-model", type=int, default=512, help="a multiple of 256 (default: 512)")
    parser.add_argument("--blocks", type=int, default=8, help="of the Transformer, a multiple of 4 (default: 8)")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, help="tokens (default: 1K to 128K)")
    parser.add_argument("--processor-time", action="store_true", help="for one thread on a busy machine")
    parser.add_argument("--quick", action="store_true", help="small models and contexts: does it run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw them")
    args = parser.parse_args(argv)
    vocab_size = 32768
    if args.quick:
        args.d_model, args.blocks, vocab_size = 256, 4, 256
        args.rounds, args.steps, args.chunk, args.contexts = 2, 2, 16, (64, 128)
    torch.manual_seed(0)
    runtime.set_num_threads(args.threads)
    result: Row = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "mambasdk": mambasdk.__version__}
    result |= {
        name: getattr(args, name)
        for name in ("threads", "processor_time", "rounds", "steps", "chunk", "d_model", "blocks")
    }
    with tempfile.TemporaryDirectory() as folder:
        made = models(args.d_model, args.blocks, vocab_size)
        result["parameters"] = {name: parameters(model) for name, model in made.items()}
        decoders = {name: Decoder(model, Path(folder) / name) for name, model in made.items()}
        del made
        print(f"{result['machine']}, {args.threads} threads, parameters {result['parameters']}")
        print(f"{'context':>8} {'decode, tokens/s':>26} {'prefill, tokens/s':>26} {'MiB a sequence':>24}")
        print(f"{'':>8} " + f"{HYBRID:>11} {TRANSFORMER:>11}      " * 3)
        result["rows"] = []
        for context in args.contexts:
            needed, free = 2 * max(one.state_bytes(context) for one in decoders.values()), _available()
            if needed > 0.8 * free:
                print(f"{context:>8} left out: takes {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
                continue
            result["rows"].append(_measure(decoders, context, args))
            _show(result["rows"][-1])
            if args.out:
                args.out.write_text(json.dumps(result, indent=1) + "\n")
    holds = [row["context"] for row in result["rows"] if row["decode"]["ratio"] >= PREDICTED]
    print(f"\nthe hybrid decodes {PREDICTED:g} times as fast at: {', '.join(map(str, holds)) or 'no context measured'}")
    if args.plot:
        _plot(args.plot, result)
    return result


def _available() -> int:
    """Bytes that may still be taken."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _measure(decoders: dict[str, Decoder], context: int, args: argparse.Namespace) -> Row:
    """Seconds of the last chunk of a prompt of that length, and of tokens after it."""
    chunk = min(args.chunk, context // 2)
    times: dict[str, dict[str, list[float]]] = {"prefill": {}, "decode": {}}
    held = {}
    clock = time.process_time if args.processor_time else time.perf_counter

    def timed(decoder: Decoder, tokens: int, count: int) -> float:
        start = clock()
        for _ in range(count):
            decoder.read(tokens)
        return (clock() - start) / count

    for _ in range(args.rounds):
        for name, one in decoders.items():
            one.fill(context - chunk)
            times["prefill"].setdefault(name, []).append(timed(one, chunk, 1) / chunk)
            one.read(1)  # the first may still plan
            times["decode"].setdefault(name, []).append(timed(one, 1, args.steps))
            held[name] = one.session_bytes()
            one.fill(1)  # so that one large state is held at a time
    row: Row = {"context": context, "load": os.getloadavg()}
    for what, found in times.items():
        rates = {name: 1 / statistics.median(seconds) for name, seconds in found.items()}
        row[what] = {"tokens_per_s": rates, "ratio": rates[HYBRID] / rates[TRANSFORMER]}
    row["state_bytes"] = {name: one.state_bytes(context) for name, one in decoders.items()}
    row["session_bytes"] = held
    return row


def _show(row: Row) -> None:
    cells = []
    for what in ("decode", "prefill"):
        rates = row[what]["tokens_per_s"]
        cells.append(f"{rates[HYBRID]:>11.1f} {rates[TRANSFORMER]:>11.1f} {row[what]['ratio']:>4.1f}x")
    sizes = row["state_bytes"]
    ratio = sizes[TRANSFORMER] / sizes[HYBRID]
    cells.append(f"{sizes[HYBRID] / 2**20:>11.2f} {sizes[TRANSFORMER] / 2**20:>11.1f} {ratio:>4.1f}x")
    print(f"{row['context']:>8} " + " ".join(cells), flush=True)


def _plot(path: Path, result: Row) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=110, layout="constrained")
    (decode, prefill), (memory, ratio) = figure.subplots(2, 2)
    rows = result["rows"]
    contexts = [row["context"] for row in rows]
    colours = {HYBRID: "#a63603", TRANSFORMER: "#08519c"}
    for name, colour in colours.items():
        label = f"{name}, {result['parameters'][name] / 1e6:.1f}M parameters"
        style = {"marker": "o", "color": colour, "label": label}
        decode.plot(contexts, [row["decode"]["tokens_per_s"][name] for row in rows], **style)
        prefill.plot(contexts, [row["prefill"]["tokens_per_s"][name] for row in rows], **style)
        memory.plot(contexts, [row["state_bytes"][name] / 2**20 for row in rows], **style)
    for what, colour in (("decode", "#54278f"), ("prefill", "#9e9ac8")):
        ratio.plot(contexts, [row[what]["ratio"] for row in rows], marker="o", color=colour, label=what)
    ratio.axhline(PREDICTED, color="grey", linestyle="--", label='predicted for 8B: "up to 8x"')
    decode.set(title="single tokens", ylabel="tokens a second")
    prefill.set(title=f"the last {result['chunk']} tokens of a prompt", ylabel="tokens a second")
    memory.set(title="state of a sequence", ylabel="MiB")
    ratio.set(title="hybrid over Transformer", ylabel="times as fast")
    for axes in (decode, prefill, memory, ratio):
        axes.set(xscale="log", yscale="log", xlabel="tokens before")
        axes.set_xticks(contexts, [f"{n // 1024}K" if n >= 1024 else str(n) for n in contexts])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    clock = ", processor time" if result["processor_time"] else ""
    figure.suptitle(f"{result['machine']}, {result['threads']} threads{clock}, {result['date']}", fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
