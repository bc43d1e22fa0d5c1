"""What the files of an upstream checkpoint say about generation: the tokens that end it, and how tokens are chosen.

The files are those of Hugging Face: generation_config.json, config.json, tokenizer_config.json. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambasdk.errors import CheckpointError
from mambasdk.models.source import CONFIG_FILE
from mambasdk.models.upstream import config_where, read_object

GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
EndTokens = int | list[int] | None

# Setting -> (smallest, largest, whether the smallest itself is allowed, whether it is an integer).
_SETTINGS: dict[str, tuple[float, float, bool, bool]] = {
    "max_new_tokens": (0, 1 << 40, True, True),
    "temperature": (0, math.inf, True, False),
    "top_k": (0, (1 << 31) - 1, True, True),
    "top_p": (0, 1, False, False),
    "min_p": (0, 1, True, False),
    "repetition_penalty": (0, math.inf, False, False),
}
_SAMPLED = ("temperature", "top_k", "top_p", "min_p")


def checkpoint_config(folder: Path) -> Mapping[str, Any]:
    """The config.json of a checkpoint's folder; empty where there is none."""
    return _optional(folder / CONFIG_FILE)


def token_ids(value: object, where: str) -> list[int]:
    """The ids of an `eos_token_id`: an id, a list of ids, or None or -1 for none; raises CheckpointError."""
    found: list[int] = []
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
        if item is None or (item == -1 and not isinstance(item, bool)):
            continue
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 1 << 31:
            raise CheckpointError(
                "bad token id",
                where=where,
                expected="an integer from 0 to 2^31 - 1, a list of them, or -1 for none",
                got=repr(value)[:80],
            )
        if item not in found:
            found.append(item)
    return found


def end_tokens(folder: Path, config: Mapping[str, Any], tokenizer: Path | None = None) -> list[int]:
    """Every id that a checkpoint's files call an end of text.

    folder: where generation_config.json lies, if it is there. config: the model's configuration. tokenizer: the
    tokenizer.json that knows the id of the end token in the tokenizer_config.json beside it.
    An id that any of the files lists ends a text. -1 in the file that decides (generation_config.json, or config.json
    where the former is missing, says nothing or is a mere copy of it) means that there is none, whatever the others
    say; null and absence say nothing.
    """
    generation = _optional(folder / GENERATION_CONFIG)
    files: list[Mapping[str, Any]] = [generation, config]
    if generation.get("_from_model_config") is True:
        files.reverse()
    says = [
        (value, f"{config_where(file)}: eos_token_id")
        for file in files
        if (value := file.get("eos_token_id")) is not None
    ]
    listed = [token_ids(value, where) for value, where in says]
    if listed and not listed[0]:
        return []
    own = _named_token(tokenizer_config(folder, tokenizer), "eos_token", tokenizer)
    return list(dict.fromkeys([*(each for ids in listed for each in ids), *([] if own is None else [own])]))


def generation_settings(folder: Path) -> dict[str, Any]:
    """The settings of generation_config.json as options of the head `causal_lm`.

    `do_sample: false` means the most likely token (temperature 0), `do_sample: true` without a temperature means 1.
    Settings that the file leaves out, or that are null, stay those of the SDK.
    """
    given = _optional(folder / GENERATION_CONFIG)
    sample = given.get("do_sample")
    found = {
        name: _setting(name, given[name], config_where(given)) for name in _SETTINGS if given.get(name) is not None
    }
    if sample is False:
        found = {name: value for name, value in found.items() if name not in _SAMPLED}
    elif sample is True:
        found.setdefault("temperature", 1.0)
    return found


def text_entry(folder: Path, config: Mapping[str, Any], tokenizer: Path | None) -> dict[str, Any]:
    """Special tokens for the manifest entry `processors.text` of a checkpoint's package."""
    entry: dict[str, Any] = {}
    ends = compact(end_tokens(folder, config, tokenizer))
    if ends is not None:
        entry["eos_token_id"] = ends
    begins = token_ids(config.get("bos_token_id"), f"{config_where(config)}: bos_token_id")
    if begins:
        entry["bos_token_id"] = begins[0]
    return {**entry, **_chat(folder if tokenizer is None else tokenizer.parent)}


def _chat(folder: Path) -> dict[str, Any]:
    """`{"chat": {"template", "bos_token", …}}` of a tokenizer's folder; empty where it has no chat template."""
    given = _optional(folder / TOKENIZER_CONFIG)
    template = given.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, Mapping)}
        template = named.get("default")
    if (folder / CHAT_TEMPLATE).is_file():
        try:
            template = (folder / CHAT_TEMPLATE).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot be read: {error}", where=str(folder / CHAT_TEMPLATE)) from error
    if not isinstance(template, str):
        return {}
    tokens = {key: _token_text(given.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return {"chat": {"template": template, **{key: text for key, text in tokens.items() if text}}}


def tokenizer_config(folder: Path, tokenizer: Path | None) -> Mapping[str, Any]:
    """The tokenizer_config.json beside `tokenizer`, or in the checkpoint's folder; empty where there is none."""
    return _optional((folder if tokenizer is None else tokenizer.parent) / TOKENIZER_CONFIG)


def compact(ids: Sequence[int]) -> EndTokens:
    """None for no id, the id itself for one, else the list: how manifests write end tokens."""
    return None if not ids else ids[0] if len(ids) == 1 else list(ids)


def _setting(name: str, value: Any, where: str) -> float:
    low, high, closed, whole = _SETTINGS[name]
    kinds = (int,) if whole else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good or not (low <= value <= high and math.isfinite(value)) or (value == low and not closed):
        number = "an integer" if whole else "a number"
        bound = f"{'of' if closed else 'above'} {low:g}{' or more' if closed else ''}"
        limit = f" and at most {high:g}" if high == 1 else ""
        raise CheckpointError(f"bad {name}", where=where, expected=f"{number} {bound}{limit}", got=repr(value)[:80])
    return int(value) if whole else float(value)


def _named_token(config: Mapping[str, Any], key: str, tokenizer: Path | None) -> int | None:
    """The id of the token that tokenizer_config.json names under `key`; None where nobody knows it."""
    token = _token_text(config.get(key))
    if not token:
        return None
    added = config.get("added_tokens_decoder")
    for number, entry in added.items() if isinstance(added, Mapping) else ():
        if isinstance(entry, Mapping) and entry.get("content") == token and str(number).isdecimal():
            return int(number)
    return None if tokenizer is None else _id_in_tokenizer(tokenizer, token)


def _token_text(token: Any) -> str:
    """The text of a special token, which is written alone or as an object; empty where there is none."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""


def _id_in_tokenizer(tokenizer: Path, token: str) -> int | None:
    content = read_object(tokenizer)
    for entry in content.get("added_tokens") or ():
        if isinstance(entry, Mapping) and entry.get("content") == token and isinstance(entry.get("id"), int):
            return int(entry["id"])
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    found = vocab.get(token) if isinstance(vocab, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _optional(path: Path) -> Mapping[str, Any]:
    return read_object(path) if path.is_file() else {}
