"""The filterbank against the golden tensors, and against its formula in float64 NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from mambasdk_audio import AudioClassification, FbankProcessor

Array = npt.NDArray[Any]


def formula(
    samples: Array,
    *,
    rate: int = 16000,
    bins: int = 128,
    length_ms: float = 25,
    shift_ms: float = 10,
    low: float = 20,
    high: float = 0,
    preemphasis: float = 0.97,
) -> Array:
    """Spec ssamba.md, section 1.2, word by word, in float64: (frames, bins)."""
    x = samples.astype(np.float64) - samples.astype(np.float64).mean()
    length, shift = int(rate * length_ms / 1000), int(rate * shift_ms / 1000)
    size = 1 << (length - 1).bit_length()
    frames = np.stack([x[i * shift : i * shift + length] for i in range(1 + (len(x) - length) // shift)])
    frames = frames - frames.mean(1, keepdims=True)
    frames = frames - preemphasis * np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    frames = frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1)))
    power = np.abs(np.fft.rfft(frames, size)) ** 2

    def mel(frequency: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(frequency) / 700)

    edges = np.linspace(mel(low), mel(high if high > 0 else rate / 2 + high), bins + 2)
    at = mel(np.arange(size // 2) * rate / size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((at - left) / (centre - left), (right - at) / (right - centre)))
    return np.log(np.maximum(power[:, :-1] @ weights, np.finfo(np.float32).eps))


def test_golden(golden: Callable[[str], Path]) -> None:
    folder = golden("ssamba")
    tensors = load_file(folder / "io.safetensors")
    settings = json.loads((folder / "config.json").read_text())["fbank"]
    options = {name: settings[name] for name in NAMES.values() if name in settings}
    made = FbankProcessor(**options)(tensors["fbank.waveform"])
    assert made.shape == (1, *tensors["fbank.log_mel"].shape)
    assert np.abs(made[0] - tensors["fbank.log_mel"]).max() < 2e-3
    mean, std = settings["dataset_mean"], settings["dataset_std"]
    made = FbankProcessor(**options, target_length=settings["target_length"], mean=mean, std=std)(
        tensors["fbank.waveform"]
    )
    assert made.shape == (1, *tensors["fbank.model_input"].shape)
    assert np.abs(made[0] - tensors["fbank.model_input"]).max() < 2e-3 / (2 * std)


CASES: dict[str, dict[str, Any]] = {
    "ssamba": {},
    "80 bins": {"bins": 80},
    "8 kHz": {"rate": 8000, "bins": 40, "high": -400},
    "long frames": {"length_ms": 50, "shift_ms": 12.5, "low": 0, "high": 6000, "preemphasis": 0},
}
NAMES = {
    "bins": "num_mel_bins",
    "length_ms": "frame_length_ms",
    "shift_ms": "frame_shift_ms",
    "low": "low_freq",
    "high": "high_freq",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("length", [801, 16000])
def test_formula(case: str, length: int) -> None:
    """Samples are float32, so frames that lose their mean differ from float64 in the last bits of quiet bins."""
    samples = np.random.default_rng(0).normal(0.1, 0.2, length).astype(np.float32)
    options = {NAMES.get(name, name): value for name, value in CASES[case].items()}
    made = FbankProcessor(**options)(samples)
    expected = formula(samples, **CASES[case])
    assert made.shape == (1, *expected.shape)
    np.testing.assert_allclose(made[0], expected, atol=2e-5)


def test_silence_is_the_floor() -> None:
    made = FbankProcessor()(np.full(4000, 0.25, np.float32))
    np.testing.assert_allclose(made, -15.9424, atol=1e-4)


def test_padding_comes_before_normalisation_and_cutting_at_the_end() -> None:
    samples = np.random.default_rng(0).normal(0, 0.2, 4000).astype(np.float32)
    plain = FbankProcessor()(samples)[0]
    mean, std = -6.6268077, 5.358466
    made = FbankProcessor(target_length=30, mean=mean, std=std)(samples)[0]
    np.testing.assert_allclose(made[:23], (plain - mean) / (2 * std), atol=1e-6)
    np.testing.assert_allclose(made[23:], -mean / (2 * std), atol=1e-6)
    cut = FbankProcessor(target_length=7)(samples)[0]
    np.testing.assert_array_equal(cut, plain[:7])


def test_too_short_is_an_error() -> None:
    message = "the input has 399 samples at 16000 Hz, expected at least one frame of 400"
    with pytest.raises(ValueError, match=message):
        FbankProcessor(target_length=10)(np.zeros(399, np.float32))
    assert FbankProcessor()(np.zeros(400, np.float32)).shape == (1, 1, 128)
    with pytest.raises(ValueError, match="expected 0 <= low_freq < high_freq <= 8000"):
        FbankProcessor(low_freq=9000)


def test_threads_change_nothing() -> None:
    from mambasdk import runtime

    samples = np.random.default_rng(0).normal(0, 0.2, 30000).astype(np.float32)
    results = []
    for count in (1, 3):
        runtime.set_num_threads(count)
        results.append(FbankProcessor()(samples))
    runtime.set_num_threads(0)
    np.testing.assert_array_equal(*results)


def test_sigmoid_labels_of_a_tagger() -> None:
    logits = np.array([[0.0, 2.0, -1.0]], np.float32)
    found = AudioClassification(labels=["a", "b", "c"], activation="sigmoid", top_k=2)(logits)
    assert [entry["label"] for entry in found] == ["b", "a"]
    np.testing.assert_allclose([entry["score"] for entry in found], [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)
