"""A conversation as the text that a model continues: by the package's chat template, or a plain one."""

from __future__ import annotations

import datetime
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

from mambasdk.errors import PackageError

Message = Mapping[str, str]  # "role": system, user or assistant; "content"


class ChatTemplate(Protocol):
    """stop: texts that end an answer. add_special: whether the tokenizer adds its own tokens to the rendered text."""

    stop: tuple[str, ...]
    add_special: bool

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation, up to where the assistant's answer begins."""


class PlainTemplate:
    """`User: …` and `Assistant: …`, one after the other; what a model without a template of its own gets."""

    stop: tuple[str, ...] = ("\nUser:",)
    add_special = True
    _NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}  # noqa: RUF012

    def render(self, messages: Sequence[Message]) -> str:
        """See ChatTemplate."""
        return "".join(map(self._turn, messages)) + "Assistant:"

    def _turn(self, message: Message) -> str:
        name, content = self._NAMES.get(message["role"], message["role"]), message["content"]
        # An answer stands as the model gave it, usually with a space in front, so that its state can go on from it.
        return f"{name}:{content}\n" if name == "Assistant" else f"{name}: {content}\n"


class JinjaTemplate:
    """The `chat_template` of a tokenizer_config.json, run in jinja2's sandbox."""

    stop: tuple[str, ...] = ()
    add_special = False  # the template writes them itself

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        """tokens: texts of special tokens by name ("bos_token")."""
        sandbox = importlib.import_module("jinja2.sandbox")
        environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda pattern: datetime.datetime.now().astimezone().strftime(pattern)
        self._tokens = dict(tokens)
        try:
            self._template = environment.from_string(source)
        except Exception as error:
            raise PackageError(f"the chat template cannot be read: {error}", where="processors.text") from error

    def render(self, messages: Sequence[Message]) -> str:
        """See ChatTemplate."""
        try:
            text: str = self._template.render(messages=list(messages), add_generation_prompt=True, **self._tokens)
        except PackageError:
            raise
        except Exception as error:
            raise PackageError(f"the chat template fails: {error}", where="processors.text") from error
        return text


def chat_template(entry: Mapping[str, Any]) -> tuple[ChatTemplate, str]:
    """(template, a remark or "") of a package whose manifest has this entry `processors.text`."""
    chat = entry.get("chat")
    source = chat.get("template") if isinstance(chat, Mapping) else None
    if not isinstance(chat, Mapping) or not isinstance(source, str):
        return PlainTemplate(), "the package has no chat template: a plain User/Assistant one is used"
    try:
        tokens = {name: text for name, text in chat.items() if name != "template" and isinstance(text, str)}
        return JinjaTemplate(source, tokens), ""
    except ModuleNotFoundError:
        return PlainTemplate(), "the package's chat template needs jinja2 (pip install jinja2): a plain one is used"


def _refuse(message: str) -> NoReturn:
    raise PackageError(f"the chat template refuses: {message}", where="processors.text")
