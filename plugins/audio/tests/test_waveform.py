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

from mambasdk_audio import FbankProcessor, WaveformProcessor
from mambasdk_audio.training.clips import find_clips

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


def container(
    values: Array,
    bits: int,
    size: int,
    *,
    extensible: bool = False,
    top: bool = True,
    channels: int = 1,
    rate: int = RATE,
) -> bytes:
    """Integers of `bits` in blocks of `size` bytes each: on top of them, as the format has it, or below."""
    shift = 8 * size - bits if top else 0
    data = b"".join((int(v) << shift).to_bytes(size, "little", signed=size > 1) for v in values)
    fmt = struct.pack(
        "<HHIIHH",
        0xFFFE if extensible else 1,
        channels,
        rate,
        rate * size * channels,
        size * channels,
        8 * size if extensible else bits,
    )
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


CONTAINERS = [
    (24, 4, False),
    (16, 4, False),
    (16, 3, False),
    (24, 4, True),
    (20, 3, True),
    (12, 2, True),
    (20, 4, True),
]


@pytest.mark.parametrize(("bits", "size", "extensible"), CONTAINERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_container_of_valid_bits(bits: int, size: int, extensible: bool, channels: int) -> None:
    """As many samples as blocks, at full scale, whatever the blocks hold beside the bits that count."""
    values = np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 16000 * channels)
    expected = (values / 2 ** (bits - 1)).reshape(-1, channels).mean(1)
    made = WaveformProcessor()(container(values, bits, size, extensible=extensible, channels=channels))
    assert made.shape == (1, 16000)
    np.testing.assert_allclose(made[0], expected, atol=6e-8)


def test_24_bits_below_a_byte_of_sign() -> None:
    values = np.random.default_rng(1).integers(-(2**23), 2**23, 1000)
    made = WaveformProcessor()(container(values, 24, 4, top=False))
    np.testing.assert_array_equal(made[0], (values / 2**23).astype(np.float32))


def test_large_files_say_their_size_elsewhere() -> None:
    plain = wav(np.arange(100, dtype=np.int16), RATE)
    fmt, data = plain[12:36], plain[44:]
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, 200, 100, 0)
    after = b"LIST" + struct.pack("<I", 4) + b"abcd"
    large = b"RF64\xff\xff\xff\xffWAVE" + sizes + fmt + b"data\xff\xff\xff\xff" + data + after
    np.testing.assert_array_equal(WaveformProcessor()(large), WaveformProcessor()(plain))


def test_blocks_that_hold_no_samples_are_refused() -> None:
    data = bytearray(wav(np.arange(100, dtype=np.int16), RATE))
    for block in (1, 9, 3):
        data[32:34] = struct.pack("<H", block)
        if block == 3:
            data[22:24] = struct.pack("<H", 2)
        with pytest.raises(Exception, match=rf"blocks of {block} bytes hold no"):
            WaveformProcessor()(bytes(data))


NOT_FINITE = [float("nan"), float("inf"), -float("inf"), 1e39]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_samples_that_are_not_finite_are_refused_with_their_place(value: float) -> None:
    samples = np.zeros(1000, np.float64)
    samples[517] = value
    with pytest.raises(Exception, match="sample 517 is not finite, or beyond float32"):
        WaveformProcessor()(wav(samples, RATE))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="sample 517 of channel 1 is not finite"):
        WaveformProcessor()(np.stack([np.zeros(1000), samples]).astype(np.float32))


def test_a_small_file_does_not_become_a_large_waveform() -> None:
    """14 KB at 1 Hz would be 719,000 frames; a rate without a common divisor a filter of millions of taps."""
    data = bytearray(wav(np.zeros(7000, np.int16), RATE))
    data[24:28] = struct.pack("<I", 1)
    with pytest.raises(ValueError, match="more than 64 times as many samples are not made up"):
        FbankProcessor()(bytes(data))
    data[24:28] = struct.pack("<I", 99_991)
    with pytest.raises(Exception, match="convert the file to a usual rate"):
        FbankProcessor()(bytes(data))
    for options, message in (
        ({"frame_length_ms": 1000.0, "frame_shift_ms": 0.1}, "frames overlap"),
        ({"num_mel_bins": 4096, "target_length": 1 << 24}, "are more than 268435456 values"),
    ):
        with pytest.raises(ValueError, match=message):
            FbankProcessor(**options)(np.zeros(RATE, np.float32))
    with pytest.raises(ValueError, match="target_length: expected an integer from 0 to 115200000"):
        WaveformProcessor(target_length=1 << 32)


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
    "mp3": (b"ID3" + bytes(100), "cannot be read as MP3"),
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


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_other_formats_are_read_through_libsndfile(kind: str, subtype: str, tmp_path: Path) -> None:
    """A chord, stereo, at 22,050 Hz: FLAC gives the WAV's samples to its resolution, the others by their coding."""
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(22050) / 22050
    left = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 660 * time)
    samples = np.stack((left, 0.5 * left), 1).astype(np.float32)
    path = tmp_path / f"chord.{kind.lower()}"
    soundfile.write(path, samples, 22050, format=kind, subtype=subtype)
    expected = WaveformProcessor()(np.ascontiguousarray(samples.T), rate=22050)
    for source in (path, path.read_bytes()):
        found = WaveformProcessor()(source)
        count = min(found.shape[1], expected.shape[1])
        assert abs(found.shape[1] - expected.shape[1]) <= (0 if kind != "MP3" else 2000)  # MP3 pads its frames
        a, b = found[0, :count], expected[0, :count]
        limit = 2e-4 if kind == "FLAC" else 0.05
        assert np.sqrt(np.mean((a - b) ** 2)) < limit * np.sqrt(np.mean(b**2)) + 2**-15
    path.write_bytes(path.read_bytes()[: 40 if kind == "FLAC" else 60])
    with pytest.raises(ValueError, match=rf"chord\.{kind.lower()}|too short|no samples"):
        WaveformProcessor()(path)


def test_an_audio_folder_holds_files_of_every_format(tmp_path: Path) -> None:
    for name in ("a.wav", "b.FLAC", "c.mp3", "d.ogg", "e.txt", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"")
    assert [clip.path.name for clip in find_clips(tmp_path, labelled=False)] == ["a.wav", "b.FLAC", "c.mp3", "d.ogg"]
