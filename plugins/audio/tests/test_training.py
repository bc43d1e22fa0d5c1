"""Training: clips on disk, augmentation, metrics, both tasks, and the command line from folder to package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import torch

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import InvalidArgumentError
from mambasdk.package import Manifest
from mambasdk_audio.training.augmentation import Augmentation, augmented, mixed
from mambasdk_audio.training.clips import Clip, find_clips, label_names, split_clips
from mambasdk_audio.training.metrics import accuracy, mean_average_precision
from mambasdk_audio.training.spectrograms import Spectrograms, measured
from mambasdk_audio.training.tasks import ClassificationTask, PretrainingTask

TONES = {"low": 300, "middle": 1200, "high": 4000}
SIZES = ["--set=embed_dim=16", "--set=depth=2", "--set=d_state=4", "--set=drop_path_rate=0"]
RUN = ["--batch", "6", "--threads", "1"]


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy tones of three pitches, 10 clips each, in class folders."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for name, hertz in TONES.items():
        (folder / name).mkdir()
        for number in range(10):
            time = np.arange(int(16000 * rng.uniform(0.3, 0.5))) / 16000
            x = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time) + rng.normal(0, 0.01, len(time))
            scipy.io.wavfile.write(folder / name / f"{number}.wav", 16000, (x * 32767).astype(np.int16))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_clips_of_folders_and_of_tables(tones: Path, tmp_path: Path) -> None:
    clips = find_clips(tones)
    assert len(clips) == 30
    assert label_names(clips) == ["high", "low", "middle"]
    assert all(clip.labels == (clip.path.parent.name,) for clip in clips)
    assert [clip.labels for clip in find_clips(tones, labelled=False)] == [()] * 30

    shutil.copytree(tones / "low", tmp_path / "wavs")
    (tmp_path / "list.csv").write_text("file,label,other\nwavs/0.wav,dog;cat,x\nwavs/1.wav,,y\n")
    table = find_clips(tmp_path / "list.csv")
    assert [clip.labels for clip in table] == [("dog", "cat"), ()]
    assert table[0].path == tmp_path / "wavs" / "0.wav"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.wav,x\n", "no column file"),
        ("file,label\nabsent.wav,x\n", r"line 2: no file 'absent.wav'"),
        ("file,label\n", "no clips"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        find_clips(tmp_path / "list.csv")
    with pytest.raises(InvalidArgumentError, match="no such file or folder"):
        find_clips(tmp_path / "absent")


def test_split_is_stable_loses_nothing_and_leaves_every_class_a_clip(tones: Path) -> None:
    clips = find_clips(tones)
    train, held_out = split_clips(clips, 0.2)
    assert sorted(train + held_out, key=str) == sorted(clips, key=str)
    assert [sum(clip.labels == (name,) for clip in held_out) for name in TONES] == [2, 2, 2]
    assert split_clips(clips[::-1], 0.2) == (train, held_out)
    assert split_clips(clips, 0.0) == (sorted(clips, key=lambda clip: str(clip.path)), [])
    alone = [Clip(Path("a.wav"), ("x",)), Clip(Path("b.wav"), ("y",))]
    assert split_clips(alone, 0.9) == (alone, [])


def test_measured_statistics_normalise_the_clips(tones: Path) -> None:
    clips = find_clips(tones)
    frames, mean, std = measured(clips)
    assert frames == max(Spectrograms([clip], {"kind": "fbank"})[0].shape[0] for clip in clips)
    normal = Spectrograms(clips, {"kind": "fbank", "mean": mean, "std": std})
    values = np.concatenate([normal[index].ravel() for index in range(len(normal))])
    assert values.mean() == pytest.approx(0, abs=1e-4)
    assert values.std() == pytest.approx(0.5, abs=1e-4)


def test_spectrograms_do_not_depend_on_the_room_to_keep_them(tones: Path) -> None:
    clips = find_clips(tones)[:3]
    entry = {"kind": "fbank", "target_length": 48, "mean": -6.0, "std": 3.0}
    kept, read = Spectrograms(clips, entry), Spectrograms(clips, entry, room=0)
    for _ in range(2):
        assert all(np.array_equal(kept[index], read[index]) for index in range(3))
        assert np.array_equal(kept.samples(1), read.samples(1))
    assert kept.silence == pytest.approx(float(kept[0][-1, 0]))  # the clips are shorter: this is padding


def test_spec_augment_silences_one_band_and_one_stretch() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 128)).astype(np.float32)
    widths = []
    for _ in range(300):
        y = augmented(x, Augmentation(freq_mask=48, time_mask=20), 9.0, rng)
        columns, rows = (y == 9).all(0), (y == 9).all(1)
        assert np.array_equal(y == 9, columns[None] | rows[:, None])
        assert np.array_equal(y[~rows][:, ~columns], x[~rows][:, ~columns])
        for mask in (columns, rows):
            assert np.count_nonzero(np.diff(mask.astype(int), prepend=0) == 1) <= 1  # in one piece
        widths.append((columns.sum(), rows.sum()))
    assert np.max(widths, 0).tolist() == [47, 19]
    assert np.mean(widths, 0) == pytest.approx([23.5, 9.5], rel=0.15)
    assert np.array_equal(augmented(x, Augmentation(), 9.0, rng), x)


def test_noise_shifts_and_adds_a_little() -> None:
    x = np.tile(np.arange(50, dtype=np.float32)[:, None], (1, 4))
    y = augmented(x, Augmentation(noise=True), 0.0, np.random.default_rng(1))
    shift = int(np.round(y[0, 0] - 0.05)) % 50
    assert shift <= 9 or shift >= 40
    difference = y - np.roll(x, -shift, 0)
    assert (difference >= 0).all()
    assert (difference <= 0.1).all()


def test_mixup_is_the_weighted_sum_without_means() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 100).astype(np.float32), rng.normal(-3, 1, 60).astype(np.float32)
    both = mixed(first, second, 0.7)
    expected = 0.7 * (first - first.mean()) + 0.3 * np.concatenate([second - second.mean(), np.zeros(40)])
    np.testing.assert_allclose(both, expected - expected.mean(), atol=1e-5)
    assert abs(float(both.mean())) < 1e-6
    assert np.allclose(mixed(first, second, 1.0), first - first.mean(), atol=1e-6)


def test_metrics_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 5)) < 0.3).astype(np.float32)
    assert mean_average_precision(targets, targets) == 1
    scores = rng.normal(size=(40, 5))
    expected = []
    for label in range(5):
        order = np.argsort(-scores[:, label])
        hits = targets[order, label] > 0
        ranks = np.flatnonzero(hits) + 1
        expected.append(np.mean([hits[:rank].mean() for rank in ranks]))
    assert mean_average_precision(scores, targets) == pytest.approx(np.mean(expected))
    # Equal scores are one group: no order among them can be gained from.
    assert mean_average_precision(np.zeros((40, 5)), targets) == pytest.approx(targets.mean(0).mean())
    hot = np.eye(3)
    assert accuracy(np.array([[2, 1, 0], [2, 1, 0], [0, 0, 1]]), hot) == pytest.approx(2 / 3)


def model_and_clips(tones: Path, label_dim: int) -> tuple[Any, Spectrograms]:
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 2, "d_state": 4, "input_tdim": 48}
    model = mambasdk.create_model("ssamba", label_dim=label_dim, **sizes)
    return model, Spectrograms(find_clips(tones), {"kind": "fbank", "target_length": 48, "mean": -9.0, "std": 4.0})


def test_a_step_depends_on_its_number_alone(tones: Path) -> None:
    model, clips = model_and_clips(tones, 3)
    change = Augmentation(freq_mask=20, time_mask=10, mixup=0.5, noise=True)
    tasks = [
        ClassificationTask(model.eval(), clips, clips, sorted(TONES), batch=4, augmentation=change, seed=3)
        for _ in range(2)
    ]
    first = [float(tasks[0].loss(step)[0].detach()) for step in (0, 1, 2)]
    assert [float(tasks[1].loss(step)[0].detach()) for step in (2, 0)] == [first[2], first[0]]
    assert len(set(first)) == 3

    pretraining, clips = model_and_clips(tones, 0)
    tasks_p = [PretrainingTask(pretraining.eval(), clips, clips, batch=4, hidden=8, seed=3) for _ in range(2)]
    first = [float(tasks_p[0].loss(step)[0].detach()) for step in (0, 1)]
    assert float(tasks_p[1].loss(1)[0].detach()) == first[1]
    with torch.no_grad():
        assert tasks_p[0].evaluate() == tasks_p[1].evaluate()


def test_joint_loss_is_the_sum_with_two_masks(tones: Path) -> None:
    model, clips = model_and_clips(tones, 0)
    losses = {
        objective: float(
            PretrainingTask(model.eval(), clips, clips, batch=4, hidden=8, objective=objective).loss(0)[0].detach()
        )
        for objective in ("joint", "discriminative", "generative")
    }
    # The first mask is the discriminative one's, the second the generative one's; alone it gets the first.
    assert losses["joint"] > losses["discriminative"]
    difference = (losses["joint"] - losses["discriminative"]) / 10
    assert difference == pytest.approx(losses["generative"], rel=0.3)
    assert difference != pytest.approx(losses["generative"], rel=1e-6)


def test_labels_that_do_not_fit_are_named(tones: Path) -> None:
    model, clips = model_and_clips(tones, 3)
    with pytest.raises(InvalidArgumentError, match="label 'high' is unknown"):
        ClassificationTask(model, clips, clips, ["low", "middle"], batch=4)
    nothing = Spectrograms([Clip(tones / "low" / "0.wav")], {"kind": "fbank"})
    with pytest.raises(InvalidArgumentError, match=r"0 labels: expected one; use the loss bce"):
        ClassificationTask(model, clips, nothing, sorted(TONES), batch=4)


def test_from_a_folder_to_a_package_that_hears_the_tones(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tones), "--out", str(tmp_path / "package"), "--curve", str(tmp_path / "curve.png")]
    more = ["--steps", "80", "--lr", "0.01", "--freq-mask", "8", "--time-mask", "8", "--mixup", "0.1"]
    report = call(capsys, "train", "ssamba", *data, *SIZES, *RUN, *more)
    assert report["clips"] == 24
    assert report["held_out_clips"] == 6
    assert report["held_out"]["accuracy"] == 1
    manifest = Manifest.read(tmp_path / "package")
    assert manifest.head_options == {"labels": ["high", "low", "middle"], "top_k": 3, "activation": "softmax"}
    entry = manifest.processors["audio"]
    assert entry["target_length"] == report["frames"] == 48
    assert (tmp_path / "curve.png").stat().st_size > 1000
    files = [str(tones / name / "3.wav") for name in TONES]
    results = call(capsys, "predict", str(tmp_path / "package"), *files)["results"]
    assert [result["labels"][0]["label"] for result in results] == list(TONES)

    # It goes on from the package with the package's input, and takes other labels under a new head.
    again = ["--out", str(tmp_path / "again"), "--steps", "2", *RUN]
    on = call(capsys, "train", str(tmp_path / "package"), "--data", str(tones), *again)
    assert on["held_out"]["accuracy"] == 1
    assert Manifest.read(tmp_path / "again").processors["audio"] == entry
    (tmp_path / "two.csv").write_text(f"file,label\n{files[0]},a;b\n{files[1]},a\n{files[2]},b\n")
    other = ["--data", str(tmp_path / "two.csv"), "--out", str(tmp_path / "two"), "--steps", "1", *RUN]
    report = call(capsys, "train", str(tmp_path / "package"), *other, "--held-out-data", str(tmp_path / "two.csv"))
    assert set(report["held_out"]) == {"loss", "accuracy", "mean_average_precision"}
    assert (Manifest.read(tmp_path / "two").head_options or {})["activation"] == "sigmoid"


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_evaluate_measures_what_the_model_says(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    call(capsys, "train", "ssamba", "--data", str(tones), "--out", str(tmp_path / "p"), "--steps", "3", "--loss", loss,
         *SIZES, *RUN)  # fmt: skip
    report = call(capsys, "evaluate", str(tmp_path / "p"), "--data", str(tones), "--plot", str(tmp_path / "plots"))
    model: Any = mambasdk.load(tmp_path / "p")
    manifest = Manifest.read(tmp_path / "p")
    labels = (manifest.head_options or {})["labels"]
    clips = find_clips(tones)
    spectrograms = Spectrograms(clips, manifest.processors["audio"])
    with torch.no_grad():
        scores = model(torch.from_numpy(np.stack([spectrograms[i] for i in range(30)]))).numpy()
    y = np.array([labels.index(clip.labels[0]) for clip in clips])
    if loss == "ce":
        assert report["metrics"]["accuracy"] == pytest.approx((scores.argmax(1) == y).mean())
        assert np.sum(report["confusion_matrix"]) == 30
        assert Path(report["pictures"]["confusion_matrix"]).is_file()
    else:
        expected = mean_average_precision(scores, np.eye(3)[y])
        assert report["metrics"]["mean_average_precision"] == pytest.approx(expected, abs=0.02)
        assert {row["label"] for row in report["labels"]} == set(TONES)


@pytest.mark.parametrize("objective", ["joint", "discriminative", "generative"])
def test_pretraining_and_then_fine_tuning(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], objective: str
) -> None:
    data = ["--data", str(tones), "--objective", objective, "--out", str(tmp_path / "pretrained")]
    report = call(capsys, "train", "ssamba", *data, *SIZES, *RUN, "--steps", "3", "--hidden", "10")
    assert set(report["held_out"]) == {"masked_accuracy", "contrastive_loss", "pixel_error"}
    assert report["labels"] == []
    if objective != "joint":
        return
    pretrained: Any = mambasdk.load(tmp_path / "pretrained")
    tune = ["--data", str(tones), "--out", str(tmp_path / "tuned"), "--stride", "10", "--frames", "64", "--lr", "1e-9"]
    report = call(capsys, "train", str(tmp_path / "pretrained"), *tune, *RUN, "--steps", "1", "--pooling", "ft_cls")
    tuned: Any = mambasdk.load(tmp_path / "tuned")
    assert tuned.config.grid == (12, 5)
    assert tuned.config.pooling == "ft_cls"
    for name, tensor in pretrained.v.layers.state_dict().items():
        torch.testing.assert_close(tuned.v.layers.state_dict()[name], tensor, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--data", "TONES", "--std", "0"], "bad --std"),
        (["--data", "TONES", "--frames", "10"], "input_tdim 10 holds no patch"),
        (["--data", "TONES", "--objective", "joint", "--hidden", "999"], "999 patches to hide"),
        (["--data", "TONES", "--mixup", "2"], "bad mixup"),
    ],
)
def test_errors_are_one_clear_line(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [str(tones) if argument == "TONES" else argument for argument in arguments]
    run = ["--out", str(tmp_path / "out"), "--steps", "1", *RUN, *SIZES]
    assert main(["train", "ssamba", *given, *run]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_damaged_clip_is_named_before_anything_is_trained(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tones, tmp_path / "tones")
    (tmp_path / "tones" / "low" / "bad.wav").write_bytes(b"RIFF")
    data = ["--data", str(tmp_path / "tones"), "--held-out", "0", "--out", str(tmp_path / "out")]
    assert main(["train", "ssamba", *data, "--steps", "1", *RUN, *SIZES]) == 2
    assert "bad.wav: waveform: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed: apt install espeak-ng")
def test_keyword_example_beats_its_baseline(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "examples" / "audio_keywords" / "keywords.py"
    command = [sys.executable, str(script), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("keywords.png", "curve.png", "predictions"):
        assert (tmp_path / "out" / name).exists()
