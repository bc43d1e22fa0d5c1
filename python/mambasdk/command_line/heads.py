"""What `mambasdk train`, `generate` and `evaluate` share: the model's head brings the work and more arguments."""

from __future__ import annotations

import argparse
from typing import Literal

from mambasdk.command_line.arguments import check_package
from mambasdk.errors import InvalidArgumentError
from mambasdk.models.registry import find_model
from mambasdk.package.manifest import Manifest, is_package
from mambasdk.plugins.host import get_host
from mambasdk.plugins.interfaces import EvaluatingHead, GeneratingHead, Head, TrainingHead
from mambasdk.plugins.specs import resolve


class HeadCommand:
    """A command whose first argument is the model; `args.head` is the model's head."""

    verb: Literal["train", "generate", "evaluate", "predict"]

    def add_head_arguments(self, parser: argparse.ArgumentParser, arguments: list[str]) -> None:
        """Add the arguments of the head that the command line's model has."""
        if not arguments or arguments[0].startswith("-"):
            if not {"-h", "--help"} & set(arguments):
                parser.error("the model comes first")
            parser.epilog = "Give the model before --help to see the options of its head."
            return
        if self.verb != "train":  # these take packages alone
            check_package(arguments[0], self.verb)
        name, head = head_of(arguments[0])
        if self.verb == "train" and isinstance(head, TrainingHead):
            head.add_train_arguments(parser)
        elif self.verb == "generate" and isinstance(head, GeneratingHead):
            head.add_generate_arguments(parser)
        elif self.verb == "evaluate" and isinstance(head, EvaluatingHead):
            head.add_evaluate_arguments(parser)
        else:
            raise InvalidArgumentError(
                f"head {name} does not {self.verb}",
                where=arguments[0],
                way_out=_use_of(arguments[0]) if self.verb == "generate" else None,
            )
        parser.set_defaults(head=head)


def _use_of(package: str) -> str:
    """What a package reads, and the command that runs it."""
    slots = " and ".join(Manifest.read(package).processors) or "no files"
    return f"`mambasdk predict PACKAGE FILE` runs a package on files; this one reads: {slots}"


def head_of(model: str) -> tuple[str, Head]:
    """Name and implementation of the head of a package directory, a variant or a family."""
    if is_package(model):
        manifest = Manifest.read(model)
        get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
        family, name = manifest.family, manifest.head
    else:
        spec, _ = find_model(model)
        family, name = spec.name, spec.head
    if name is None:
        raise InvalidArgumentError(f"family {family} has no head", where=model)
    head: Head = resolve(get_host().head(name).implementation)()
    return name, head
