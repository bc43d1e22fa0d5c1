"""The command line: results as text and JSON, errors in one line with exit code 2, heads and plugin commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import mambasdk
from mambasdk.command_line import main
from mambasdk.command_line.program import BUILTIN_COMMANDS
from mambasdk.plugins import reset_host
from mambasdk.plugins.specs import RESERVED_COMMANDS


@pytest.fixture
def run(toy: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def package(toy: str, tmp_path: Path) -> Path:
    mambasdk.save_package(mambasdk.create_model("toy-2"), tmp_path / "package")
    return tmp_path / "package"


def test_overview_lists_own_and_plugin_commands(run: Any) -> None:
    code, out, _ = run()
    assert code == 0
    for name in ("doctor", "train", "verify", "toy-hello"):
        assert f"  {name}" in out
    assert run("--version")[1].strip() == f"mambasdk {mambasdk.__version__}"


def test_own_commands_are_the_reserved_names() -> None:
    assert set(BUILTIN_COMMANDS) == set(RESERVED_COMMANDS)


def test_models_and_plugins(run: Any) -> None:
    assert run("models", "toy*")[1].splitlines()[0].startswith("toy-2")
    models = json.loads(run("models", "toy*", "--json")[1])["models"]
    assert [row["name"] for row in models] == ["toy-2", "toy-mlp"]
    toy = next(row for row in json.loads(run("plugins", "--json")[1])["plugins"] if row["name"] == "toy")
    assert toy["families"] == ["toy"]
    assert toy["status"] == "good"


def test_doctor_reports_quarantine_with_the_way_out(run: Any, plugin_site: Any) -> None:
    plugin_site.install("acme-broken", "broken", "broken", "import a_module_that_is_nowhere")
    code, out, _ = run("doctor")
    assert code == 1
    assert "plugin broken (acme-broken 1.0): quarantined" in out
    assert "No module named 'a_module_that_is_nowhere'" in out
    assert "way out: pip install --force-reinstall acme-broken" in out
    report = json.loads(run("doctor", "--json")[1])
    assert report["exit_code"] == 1
    assert any(problem["where"] == "plugin broken" for problem in report["problems"])


def test_doctor_finds_a_missing_factory(run: Any, plugin_site: Any) -> None:
    source = """
from mambasdk.plugins import FamilySpec, hookimpl
@hookimpl
def mambasdk_families():
    return [FamilySpec(name="half", summary="", config="toy_model:ToyConfig", factory="toy_model:biuld")]
"""
    plugin_site.install("acme", "acme", "acme_plugin", source)
    reset_host()
    code, out, _ = run("doctor", "--json")
    assert code == 1
    problem = next(row for row in json.loads(out)["problems"] if row["where"] == "plugin acme")
    assert "family half: factory cannot be imported: toy_model:biuld: " in problem["reason"]
    assert "has no attribute biuld" in problem["reason"]
    assert not [row for row in json.loads(out)["problems"] if row["where"] == "plugin toy"]


def test_paths_of_plugins_libraries_are_absolute_and_there(run: Any) -> None:
    code, out, _ = run("paths", "--plugins", "--json")
    found = json.loads(out)["plugins"]
    assert code == 0
    assert run("paths", "--plugins")[1].split("\n")[:-1] == found
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modles"], "no command 'modles'; did you mean models?"),
        (["verify", "/no/such"], "/no/such: there is no such folder"),
        (["bench", "toy", "--set", "n_layr=1"], "no override named 'n_layr'; did you mean n_layer?"),
        (["train", "nope", "--out", "x", "--steps", "1"], "no model named 'nope'"),
        (["import", "toy", "--out", "x"], "toy has no hub repository of its own; give a SOURCE"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(run: Any, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("mambasdk: error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert "Traceback" in run(*arguments, "--debug")[2]


def test_train_and_generate_hand_over_to_the_head(run: Any, package: Path, tmp_path: Path) -> None:
    code, out, _ = run("train", "toy-2", "--out", tmp_path / "x", "--steps", 3, "--set", "n_layer=4", "--json")
    result = json.loads(out)
    assert code == 0
    assert result == {"model": "toy-2", "out": str(tmp_path / "x"), "steps": 3, "overrides": {"n_layer": 4}}
    assert json.loads(run("generate", package, "--prompt", "abc", "--json")[1]) == {"text": "ABC"}
    assert "--steps" in run("train", "toy-2", "--help")[1]
    assert run("train", "toy-2", "--out", "x")[0] == 2  # --steps is missing
    assert "the model comes first" in run("train", "--steps", "3", "toy-2")[2]


@pytest.mark.parametrize("verb", ["generate", "evaluate", "predict", "verify"])
def test_what_is_no_package_is_named(run: Any, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    cases = {
        str(tmp_path / "nosuch"): "there is no such folder",
        str(tmp_path / "folder"): "the folder has no mambasdk.json: it is no model package",
        str(tmp_path / "file"): "this is a file; a model package is a folder",
        "toy-2": "this is the name of a model, and there is no such folder",
        "toy": "this is the name of a model, and there is no such folder",
    }
    for given, message in cases.items():
        more = {"evaluate": ["--data", "x"], "predict": [tmp_path / "file"]}
        code, out, error = run(verb, given, *more.get(verb, []))
        assert (code, out) == (2, "")
        assert f"{given}: {message}" in error
        assert "--out says" in error


def test_heads_say_what_they_do_not_do(run: Any, plugin_site: Any, package: Path) -> None:
    plugin_site.install("mambasdk-drawer", "drawer", "drawer", DRAWER.replace("causal_lm", "drawing"))
    reset_host()
    edit_manifest(package, head="drawing")
    code, _, error = run("generate", package)
    assert code == 2
    assert "package: head drawing does not generate; `mambasdk predict PACKAGE FILE` runs" in error
    assert "this one reads: shout" in error
    assert "head drawing does not train" in run("train", package, "--out", "x")[2]


DRAWER = """
from mambasdk.plugins import HeadSpec, hookimpl

@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="causal_lm", summary="draws", implementation="drawer:Head")]

class Head:
    def draw(self, file, result, out, *, package):
        assert package.is_dir() and out.parent.is_dir()
        out.write_text(f"{file.name} {sorted(result)}")
"""


def edit_manifest(package: Path, **changes: Any) -> None:
    path = package / "mambasdk.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def text_package(run: Any, plugin_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that the runtime's own head `causal_lm` runs, and a plugin that draws what it says."""
    plugin_site.install("mambasdk-drawer", "drawer", "drawer", DRAWER)
    monkeypatch.setenv("MAMBASDK_PLUGINS", "toy,drawer")
    reset_host()
    model = mambasdk.create_model("toy-2", vocab_size=256)
    mambasdk.save_package(model, tmp_path / "text", processors={"text": {"kind": "bytes"}})
    edit_manifest(tmp_path / "text", head="causal_lm", head_options={"max_new_tokens": 2})
    return tmp_path / "text"


def test_predict_draws_each_file(run: Any, text_package: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "other" / "a.txt", tmp_path / "b.x.txt"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("abc")
    code, out, error = run("predict", text_package, *files, "--plot", tmp_path / "new" / "plots", "--json")
    assert code == 0, error
    plots = [Path(result["plot"]) for result in json.loads(out)["results"]]
    assert [plot.relative_to(tmp_path).as_posix() for plot in plots] == [
        "new/plots/a.png",
        "new/plots/a-2.png",
        "new/plots/b.x.png",
    ]
    said = [key for key in json.loads(out)["results"][0] if key not in ("file", "plot")]
    assert [plot.read_text() for plot in plots] == [f"{file.name} {sorted(said)}" for file in files]
    code, out, error = run("predict", text_package, files[0], "--plot", tmp_path / "one" / "x.png")
    assert code == 0, error
    assert f"plot: {tmp_path / 'one' / 'x.png'}" in out
    assert (tmp_path / "one" / "x.png").is_file()


def test_predict_says_why_nothing_is_drawn(run: Any, text_package: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("abc")
    plot = tmp_path / "plot.png"
    cases: list[tuple[dict[str, Any], list[Path], Path, str]] = [
        ({}, files, plot, "one picture for several files: expected a folder, got 2 files"),
        ({}, files, files[0], "cannot be made: File exists"),
        ({"head": "elsewhere"}, files[:1], plot, "head elsewhere has no part in Python; leave --plot out"),
        ({"head": None}, files[:1], plot, "the package has no head, so nothing draws its results"),
    ]
    for changes, given, target, message in cases:
        edit_manifest(text_package, **changes)
        code, out, error = run("predict", text_package, *given, "--plot", target)
        assert (code, out) == (2, "")
        assert message in error
    assert not plot.exists()


def test_plugin_command(run: Any) -> None:
    assert json.loads(run("toy-hello", "you", "--json")[1])["hello"] == "you"


def test_import_export_verify(run: Any, toy: str, tmp_path: Path) -> None:
    model = mambasdk.create_model("toy-2")
    source = tmp_path / "upstream"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"d_model": 32, "n_layer": 2, "vocab_size": 61, "eos_token_id": 0}))
    save_file({k: v.detach().clone() for k, v in model.state_dict().items()}, source / "model.safetensors")
    code, out, _ = run("import", "toy-2", source, "--out", tmp_path / "p", "--json")
    assert code == 0
    assert json.loads((tmp_path / "p" / "mambasdk.json").read_text())["processors"] == {"shout": {"kind": "upper"}}
    (source / "tokenizer.json").write_text("{}")
    assert run("import", "toy", source, "--out", tmp_path / "t")[0] == 0
    text = json.loads((tmp_path / "t" / "mambasdk.json").read_text())["processors"]["text"]
    assert text == {"kind": "tokenizer", "file": "tokenizer.json", "eos_token_id": 0}
    assert json.loads(out)["parameters"] == sum(p.numel() for p in model.parameters())
    assert run("export", tmp_path / "p", "--out", tmp_path / "q", "--dtype", "bfloat16")[0] == 0
    code, out, _ = run("verify", tmp_path / "q")
    assert code == 0
    assert out.splitlines()[-1] == "passed"
    data = (tmp_path / "q" / "model.safetensors").read_bytes()
    (tmp_path / "q" / "model.safetensors").write_bytes(data[:-4] + b"\0\1\2\3")
    code, _, err = run("verify", tmp_path / "q")
    assert code == 2
    assert "file model.safetensors is damaged" in err


def test_bench_reports_rates(run: Any, package: Path) -> None:
    code, out, _ = run("bench", package, "--length", 8, "--decode", 2, "--repeats", 1, "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert {row["work"] for row in rows if row["engine"] == "torch"} == {"prefill", "decode", "forward+backward"}
    assert all(row["tokens_per_second"] > 0 for row in rows)
    assert run("bench", package, "--length", 0)[0] == 2


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".svg"])
def test_pictures_of_other_kinds_are_refused_before_anything_is_made(
    run: Any, text_package: Path, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "a.txt").write_text("abc")
    code, _, error = run("predict", text_package, tmp_path / "a.txt", "--plot", tmp_path / f"x{ending}")
    assert code == 2
    assert f"written as PNG, not as {ending.lower()}" in error
    assert not (tmp_path / f"x{ending}").exists()


def test_an_error_after_streamed_text_begins_a_new_line(
    plugin_site: Any, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin_site.install("mambasdk-teller", "teller", "teller", TELLER)
    reset_host()
    edit_manifest(package, head="teller")
    assert main(["generate", str(package)]) == 2
    said = capsys.readouterr()
    assert said.out == "The\n"
    assert said.err.startswith("mambasdk: error")


TELLER = """
from mambasdk.errors import PackageError
from mambasdk.plugins import HeadSpec, hookimpl

@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="teller", summary="tells", implementation="teller:Head")]

class Head:
    def add_generate_arguments(self, parser):
        pass

    def generate(self, args):
        print("The", end="", flush=True)
        raise PackageError("broken")
"""
