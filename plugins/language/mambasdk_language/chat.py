"""A conversation that keeps the model's state: of each turn only what is new is read."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk_language.chat_template import ChatTemplate, Message
from mambasdk_language.generation import Opened
from mambasdk_language.processors import TextStream, encode_plain, end_token_ids
from mambasdk_language.sampling import GenerationOptions
from mambasdk_language.token_run import TokenRun

HELP = "/reset begins anew, /save FILE writes the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"


class Conversation:
    """Messages, and the state of the model after them.

    messages: {"role", "content"} in order. fed_tokens: how many tokens the model has read since the last `reset`.
    """

    def __init__(self, opened: Opened, template: ChatTemplate, options: GenerationOptions) -> None:
        self._opened = opened
        self._template = template
        self._options = options
        self.messages: list[Message] = []
        self.fed_tokens = 0
        self._fed = ""  # the text whose tokens are in the state; "" where the state must be made anew
        self._seen: list[int] = []  # those tokens

    def reset(self) -> None:
        """Forget everything but the first system message."""
        self.messages = [m for m in self.messages[:1] if m["role"] == "system"]
        self._fed, self._seen, self.fed_tokens = "", [], 0

    def answer(self, text: str) -> Generator[str, None, None]:
        """Pieces of the assistant's answer to a user's message.

        Closing the iterator, or an exception in its consumer, stops the answer; what was said until then is kept.
        """
        self.messages.append({"role": "user", "content": text})
        whole = self._template.render(self.messages)
        going_on = bool(self._fed) and whole.startswith(self._fed) and len(whole) > len(self._fed)
        tokens = self._encode(whole[len(self._fed) :] if going_on else whole, begins=not going_on)
        if not tokens:
            self.messages.pop()
            raise InvalidArgumentError("the prompt has no tokens", where="chat")
        decoder, processor = self._opened.decoder, self._opened.processor
        seen = [*self._seen, *tokens] if going_on else tokens
        run = TokenRun(decoder, [tokens], self._options, end_token_ids(processor), [seen])
        stream = TextStream(processor.decoder(tokens), (*self._options.stop, *self._template.stop))
        self._fed = ""  # until this answer is complete, the state belongs to no text
        said: list[str] = []
        made: list[int] = []
        broken = False
        try:
            for _, token in run.tokens((lambda: decoder.extend(tokens)) if going_on else None):
                made.append(token)
                piece = stream.push(token)
                if stream.stopped:
                    run.end(0, "stop")
                if piece:
                    said.append(piece)
                    yield piece
            if not stream.stopped and (rest := stream.finish()):
                said.append(rest)
                yield rest
        except GeneratorExit:
            raise
        except BaseException:
            broken = True  # Ctrl-C in the middle of a token: nobody knows whether the state has it
            raise
        finally:
            self.messages.append({"role": "assistant", "content": "".join(said)})
            if not broken:
                self._note(whole, seen, made, complete=run.finish_reasons[0] == "eos")

    def _encode(self, text: str, *, begins: bool) -> list[int]:
        processor = self._opened.processor
        return processor.encode(text) if begins and self._template.add_special else encode_plain(processor, text)

    def _note(self, prompt: str, seen: list[int], made: list[int], *, complete: bool) -> None:
        """Remember which text the state holds: the decoder has read every new token but the last one drawn."""
        read = made if complete else made[:-1]
        decoder = self._opened.processor.decoder(seen)
        text = "".join(map(decoder.push, read))
        self._seen = [*seen, *read]
        self.fed_tokens = len(self._seen)
        if not decoder.finish():  # half a character is no text that a template could continue
            self._fed = prompt + text


def chat(conversation: Conversation, read: Callable[[], str], show: Callable[[str], None]) -> None:
    """The loop of `mambasdk generate --chat`.

    read: the next line of the user; raises EOFError at the end. show: prints a piece of an answer.
    """
    while True:
        try:
            line = read().strip()
        except (EOFError, KeyboardInterrupt):
            show("\n")
            return
        if line in ("/quit", "/exit"):
            return
        if line.startswith("/"):
            show(_command(conversation, line) + "\n")
        elif line:
            with contextlib.closing(conversation.answer(line)) as pieces, contextlib.suppress(KeyboardInterrupt):
                for piece in pieces:
                    show(piece)
            show("\n")


def _command(conversation: Conversation, line: str) -> str:
    name, _, rest = line.partition(" ")
    if name == "/reset":
        conversation.reset()
        return "(a new conversation)"
    if name == "/save" and rest.strip():
        try:
            return f"(saved in {save(conversation, Path(rest.strip()))})"
        except MambaSDKError as error:
            return f"({error})"
    return f"({HELP})"


def save(conversation: Conversation, path: Path) -> Path:
    """Write the messages as JSON: {"messages": [{"role", "content"}]}."""
    try:
        path.write_text(json.dumps({"messages": conversation.messages}, ensure_ascii=False, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"cannot be written: {error.strerror or error}", where=str(path)) from error
    return path


def load_messages(path: Path) -> list[Message]:
    """The messages that `save` wrote."""
    try:
        value: Any = json.loads(path.read_text("utf-8"))
        messages = value["messages"]
        good = all(isinstance(m["role"], str) and isinstance(m["content"], str) for m in messages)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgumentError(f"no conversation: {error}", where=str(path)) from error
    if not good:
        raise InvalidArgumentError("no conversation", where=str(path), expected="messages with role and content")
    return list(messages)


def from_terminal() -> str:
    """A line of the user, asked for where it is a terminal."""
    return input("> " if sys.stdin.isatty() else "")
