"""What the examples of detection have in common: commands of `mambasdk`, their arguments, the scores of a package."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

from mambasdk.command_line import main as mambasdk


def run(*arguments: str) -> None:
    """A command of `mambasdk`; its failure ends the script."""
    print("mambasdk", *arguments, flush=True)
    if code := mambasdk(list(arguments)):
        raise SystemExit(code)


def arguments(doc: str | None, out: str, steps: int, images: int) -> argparse.Namespace:
    """Of a script: out, steps, images, seed and threads; `out`, `steps` and `images` are the defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for all that is made")
    parser.add_argument("--steps", type=int, default=steps, help=f"training steps (default: {steps})")
    parser.add_argument("--images", type=int, default=images, help=f"pictures to train on (default: {images})")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and training (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="of the training (default: 2)")
    return parser.parse_args()


def scores(package: Path, data: Path, pictures: Path) -> dict[str, float]:
    """What `mambasdk evaluate --json` says of the held-out pictures."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run("evaluate", str(package), "--data", str(data), "--plot", str(pictures), "--json")
    metrics: dict[str, float] = json.loads(said.getvalue().splitlines()[-1])["metrics"]
    return {name: metrics[name] for name in ("AP", "AP50", "AP75", "VOC_mAP50")}
