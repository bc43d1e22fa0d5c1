"""Conversations: the kept state gives what reading everything again would, and the loop obeys its commands."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import PackageError
from mambasdk.package import Manifest
from mambasdk_language.chat import Conversation, chat, load_messages, save
from mambasdk_language.chat_template import JinjaTemplate, PlainTemplate, chat_template
from mambasdk_language.generation import open_model
from mambasdk_language.sampling import GenerationOptions

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TURNS = ["hello", "who are you?", "and now?"]
OPTIONS = {"max_new_tokens": 12, "temperature": 1.0, "top_k": 90, "seed": 3, "repetition_penalty": 1.2}


@pytest.fixture
def package(make_tiny: Any, tmp_path: Path) -> Path:
    model: Any = make_tiny("mamba")
    model.lm_head.weight.data[128:] = 0  # ASCII alone, so that every answer is whole characters
    model.lm_head.weight.data[:32] = 0
    mambasdk.save_package(model, tmp_path / "package")
    return tmp_path / "package"


@pytest.fixture
def conversation(package: Path) -> Callable[..., Conversation]:
    def make(engine: Any = "native", template: Any = None) -> Conversation:
        return Conversation(open_model(package, engine), template or PlainTemplate(), GenerationOptions.of(OPTIONS, {}))

    return make


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_the_kept_state_gives_what_reading_everything_again_would(conversation: Any, engine: str) -> None:
    kept, anew = conversation(engine), conversation(engine)
    fed = []
    for text in TURNS:
        before = kept.fed_tokens
        said = "".join(kept.answer(text))
        anew._fed = ""  # nothing is remembered: the whole conversation is read
        assert "".join(anew.answer(text)) == said
        assert kept.messages == anew.messages
        fed.append((before, kept.fed_tokens))
        assert kept.messages[-1] == {"role": "assistant", "content": said}
    assert all(after > before for before, after in fed)


def test_each_turn_reads_only_what_is_new(conversation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = conversation()
    decoder = talk._opened.decoder
    read: list[int] = []
    for name in ("prefill", "extend"):
        original = getattr(decoder, name)

        def noted(tokens: Any, original: Any = original, name: str = name) -> Any:
            read.append(len(tokens[0]) if name == "prefill" else len(tokens))
            return original(tokens)

        monkeypatch.setattr(decoder, name, noted)
    for text in TURNS:
        list(talk.answer(text))
    whole = len(PlainTemplate().render(talk.messages[:-1]).encode())
    assert len(read) == 3
    assert sum(read) < whole
    assert read[2] < whole / 2


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came(conversation: Any) -> None:
    whole = list(conversation().answer("hello"))
    talk = conversation()
    pieces: Iterator[str] = talk.answer("hello")
    said = next(pieces) + next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert talk.messages[-1]["content"] == said
    assert "".join(whole).startswith(said)
    other = conversation()
    other.messages = list(talk.messages)
    assert "".join(talk.answer("go on")) == "".join(other.answer("go on"))


def test_ctrl_c_while_a_token_is_made_forgets_the_state_and_nothing_else(conversation: Any) -> None:
    talk = conversation()
    decoder = talk._opened.decoder
    step, count = decoder.step, 0

    def interrupted(tokens: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return step(tokens)

    decoder.step = interrupted
    shown: list[str] = []
    lines = iter(["hello", "go on"])

    def read() -> str:
        for line in lines:
            return line
        raise EOFError

    chat(talk, read, shown.append)
    assert [m["role"] for m in talk.messages] == ["user", "assistant"] * 2
    other = conversation()
    other.messages = list(talk.messages[:2])
    assert "".join(other.answer("go on")) == talk.messages[3]["content"]


def test_commands_of_the_loop(conversation: Any, tmp_path: Path) -> None:
    talk = conversation()
    shown: list[str] = []
    file = tmp_path / "talk.json"
    lines = iter(["hello", "", f"/save {file}", "/save /no/such/place/x", "/what", "/reset", "again", "/quit", "never"])
    chat(talk, lambda: next(lines), shown.append)
    text = "".join(shown)
    assert "(saved in " in text
    assert "cannot be written" in text
    assert "/reset begins anew" in text
    assert next(m["content"] for m in load_messages(file)) == "hello"
    assert next(m["content"] for m in talk.messages) == "again"
    assert len(talk.messages) == 2
    assert next(lines) == "never"


def test_saved_conversations_come_back(conversation: Any, tmp_path: Path) -> None:
    talk = conversation()
    list(talk.answer("é"))
    assert load_messages(save(talk, tmp_path / "a.json")) == talk.messages


def test_the_chat_template_of_a_checkpoint_is_used(make_tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from safetensors.torch import save_file

    model: Any = make_tiny("mamba", pad_vocab_size_multiple=1)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({k: v.detach().clone() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 256, "pad_vocab_size_multiple": 1, "ssm_cfg": {"d_state": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    said = {"chat_template": TEMPLATE, "bos_token": "[", "eos_token": {"content": "]"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert main(["import", "mamba", str(folder), "--out", str(tmp_path / "package")]) == 0
    template, remark = chat_template(Manifest.read(tmp_path / "package").processors["text"])
    assert remark == ""
    messages = [{"role": "user", "content": "hi"}]
    assert template.render(messages) == "[<user>hi]\n<assistant>"
    assert main(["generate", str(tmp_path / "package"), "--prompt", "x", "--max-new-tokens", "1"]) == 0


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ ''.__class__.__mro__ }}", "{{ raise_exception('no') }}", "{{ messages.x.y }}"]
)
def test_templates_that_fail_or_reach_out_are_refused(source: str) -> None:
    pytest.importorskip("jinja2")
    with pytest.raises(PackageError, match="chat template"):
        JinjaTemplate(source, {}).render([])


def test_without_jinja2_or_template_a_plain_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(chat_template({"kind": "bytes"})[0], PlainTemplate)
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    monkeypatch.setitem(__import__("sys").modules, "jinja2.sandbox", None)
    template, remark = chat_template({"kind": "bytes", "chat": {"template": "x"}})
    assert isinstance(template, PlainTemplate)
    assert "pip install jinja2" in remark


def test_chat_on_the_command_line(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"hello\nwho?\n/save {tmp_path / 'talk.json'}\n"))
    command = ["generate", str(package), "--chat", "--max-new-tokens", "6", "--system", "be short", "--json"]
    assert main(command) == 0
    messages = json.loads(capsys.readouterr().out)["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert load_messages(tmp_path / "talk.json") == messages
    monkeypatch.setattr("sys.stdin", io.StringIO("more\n"))
    assert main(["generate", str(package), "--chat", "--history", str(tmp_path / "talk.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"][:5] == messages
