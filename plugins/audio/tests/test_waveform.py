"""WAV reading and resampling: exact samples of every format, SciPy's polyphase filter, quality of the filter itself."""

from __future__ import annotations

import io
import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io.wavfile
import scipy.signal

from mambasdk_audio import WaveformProcessor

Array = npt.NDArray[Any]
RATE = 16000


def tone(frequency: float, rate: int, seconds: float = 1.0) -> Array:
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def wav(samples: Array, rate: int) -> bytes:
    """samples: (n) or (n, channels); its dtype is the file's."""
    buffer = io.BytesIO()
    scipy.io.wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


def wav24(samples: Array, rate: int, extensible: bool) -> bytes:
    data = b"".join(int(v).to_bytes(3, "little", signed=True) for v in samples)
    if extensible:
        guid = struct.pack("<HHIH", 22, 24, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
        fmt = struct.pack("<HHIIHH", 0xFFFE, 1, rate, rate * 3, 3, 24) + guid
    else:
        fmt = struct.pack("<HHIIHH", 1, 1, rate, rate * 3, 3, 24)
    body = b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"LIST" + struct.pack("<I", 3) + b"odd\0"  # an odd chunk and its padding
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


SCALE = {np.uint8: 128, np.int16: 2**15, np.int32: 2**31, np.float32: 1, np.float64: 1}


@pytest.mark.parametrize("dtype", SCALE)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_format_is_read_exactly(dtype: Any, channels: int) -> None:
    chance = np.random.default_rng(0)
    shape = (500, channels) if channels > 1 else 500
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        samples = chance.integers(info.min, info.max, shape, dtype, endpoint=True)
    else:
        samples = chance.uniform(-1, 1, shape).astype(dtype)
    centred = samples.astype(np.float64) - (128 if dtype is np.uint8 else 0)
    expected = (centred / SCALE[dtype]).reshape(500, channels).mean(1)
    made = WaveformProcessor()(wav(samples, RATE))
    assert made.shape == (1, 500)
    np.testing.assert_allclose(made[0], expected, atol=6e-8)


@pytest.mark.parametrize("extensible", [True, False])
def test_24_bits_plain_and_extensible(extensible: bool) -> None:
    samples = np.random.default_rng(1).integers(-(2**23), 2**23, 300)
    made = WaveformProcessor()(wav24(samples, RATE, extensible))
    np.testing.assert_array_equal(made[0], (samples / 2**23).astype(np.float32))


def test_a_stream_that_claims_more_than_it_has() -> None:
    data = bytearray(wav(np.arange(100, dtype=np.int16), RATE))
    data[40:44] = b"\xff\xff\xff\xff"
    assert WaveformProcessor()(bytes(data)).shape == (1, 100)


def designed_filter(up: int, down: int) -> Array:
    """The filter of resample.hpp, by scipy.signal: 32 zero crossings to a side, Kaiser 9, cut at 0.9 Nyquist."""
    slower = max(up, down)
    return scipy.signal.firwin(2 * 32 * slower + 1, 0.9 / slower, window=("kaiser", 9.0)) * up


RATES = [(44100, 16000), (48000, 16000), (8000, 16000), (22050, 16000), (11025, 44100), (16000, 48000)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_resampling_is_scipys_with_the_same_filter(source: int, target: int) -> None:
    x = np.random.default_rng(0).normal(0, 0.3, 3001).astype(np.float32)
    ratio = Fraction(target, source)
    taps = designed_filter(ratio.numerator, ratio.denominator)
    expected = scipy.signal.resample_poly(
        x.astype(np.float64), ratio.numerator, ratio.denominator, window=taps / ratio.numerator
    )
    made = WaveformProcessor(rate=target)(x, source)
    assert made.shape == (1, -(-3001 * target // source))
    np.testing.assert_allclose(made[0], expected, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_tones_pass_and_aliases_do_not(source: int, target: int) -> None:
    """Up to 0.8 of the lower Nyquist frequency a tone comes out as it was (error below -80 dB); above it is gone."""
    middle = slice(target // 4, 3 * target // 4)  # away from the ends, where the signal begins and stops
    lower = min(source, target) / 2
    for part in (0.02, 0.3, 0.8):
        made = WaveformProcessor(rate=target)(tone(part * lower, source), source)[0]
        error = made[middle] - tone(part * lower, target)[middle]
        assert np.abs(error).max() < 1e-4, part
    if source > target:
        above = WaveformProcessor(rate=target)(tone(1.02 * lower, source), source)[0]
        assert np.abs(above[middle]).max() < 1e-4


def test_channels_rates_and_target_length() -> None:
    x = np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32)
    made = WaveformProcessor(target_length=500)(x)
    np.testing.assert_allclose(made[0, :400], x.mean(0), atol=1e-7)
    assert not made[0, 400:].any()
    assert WaveformProcessor(target_length=100)(x).shape == (1, 100)
    np.testing.assert_array_equal(WaveformProcessor()(x[0], RATE)[0], x[0])


def test_path_and_bytes_are_one(tmp_path: Path) -> None:
    data = wav(tone(440, 8000), 8000)
    (tmp_path / "x.wav").write_bytes(data)
    np.testing.assert_array_equal(WaveformProcessor()(tmp_path / "x.wav"), WaveformProcessor()(data))


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    x = tone(440, RATE)
    made = WaveformProcessor()(torch.from_numpy(x))
    assert isinstance(made, torch.Tensor)
    np.testing.assert_array_equal(made[0].numpy(), x)


def header(channels: int = 1, rate: int = RATE, bits: int = 16, encoding: int = 1) -> bytes:
    fmt = struct.pack("<HHIIHH", encoding, channels, rate, 0, 2, bits)
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", 4) + bytes(4)


BAD_FILES = {
    "empty": (b"", "these 0 bytes are no WAV file"),
    "mp3": (b"ID3" + bytes(100), "are no WAV file; convert the file"),
    "no data": (header()[:36], "it has no samples"),
    "cut format": (header()[:30], "format chunk is cut off"),
    "no format": (b"RIFF\0\0\0\0WAVEdata\4\0\0\0" + bytes(4), "samples come before their format"),
    "ulaw": (header(encoding=7, bits=8), "encoding 7 with 8 bits, expected PCM"),
    "12 bits": (header(bits=12), "with 12 bits"),
    "no channel": (header(channels=0), "it has 0 channels"),
    "many channels": (header(channels=65535), "it has 65535 channels"),
    "no rate": (header(rate=0), "its rate is 0 Hz"),
    "fast": (header(rate=2**32 - 1), "its rate is 4294967295 Hz"),
    "no common divisor": (header(rate=767999), "convert the file to a usual rate"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_other_and_broken_files_are_clear_errors(case: str) -> None:
    data, message = BAD_FILES[case]
    with pytest.raises(Exception, match=message):
        WaveformProcessor()(data)


def test_damage_never_crashes() -> None:
    data = wav(np.random.default_rng(0).integers(-999, 999, (200, 2), np.int16), 44100)
    chance = random.Random(0)
    prepare = WaveformProcessor(max_samples=100_000)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(60)] = chance.randrange(256)
        try:
            assert prepare(bytes(broken)).ndim == 2
        except (ValueError, RuntimeError, NotImplementedError) as error:
            assert str(error).startswith("waveform: ")  # noqa: PT017


def test_limits_and_wrong_arrays() -> None:
    with pytest.raises(ValueError, match="it has 11 samples, expected at most 10; raise max_samples"):
        WaveformProcessor(max_samples=10)(np.zeros(11, np.float32))
    with pytest.raises(ValueError, match="got 3 dims"):
        WaveformProcessor()(np.zeros((1, 1, 4), np.float32))
    with pytest.raises(ValueError, match="there are no samples"):
        WaveformProcessor()(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="leave the rate out"):
        WaveformProcessor()(wav(tone(440, 8000), 8000), 8000)
    with pytest.raises(ValueError, match="the rate is 0"):
        WaveformProcessor()(np.zeros(4, np.float32), 0)
