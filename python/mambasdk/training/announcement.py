"""Numbers for people: sizes, times, and the line that says what a training run is before it starts. No torch."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Bytes as "12 MB" or "3.4 GB"."""
    for divisor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= divisor:
            value = count / divisor
            return f"{value:,.{0 if value >= 10 else 1}f} {unit}"
    return f"{count:.0f} bytes"


def time_text(seconds: float) -> str:
    """Seconds as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{max(seconds, 0):.{1 if seconds < 10 else 0}f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    return f"{hours / 24:,.0f} days"


def announcement(
    model: str,
    *,
    parameters: int,
    memory: str,
    steps: int | None,
    minutes: float | None,
    batch: int,
    processes: int,
    data: str | None,
    device: str,
    threads: int | None,
    dtype: str | None,
    seconds: float | None,
) -> str:
    """One line: what is trained on what, where, how long. seconds: of the whole run, estimated; None if unknown."""
    end = " or ".join(
        text
        for text in (
            f"{steps:,} steps" if steps else "",
            f"{minutes:g} min" if minutes else "",
        )
        if text
    )
    rows = f"{batch} rows" + (f" in each of {processes} processes" if processes > 1 else "")
    parts = [
        f"{parameters:,} parameters",
        f"about {memory} of memory",
        f"{end} of {rows}" if steps else f"{end}, steps of {rows}",
        data,
        device + (f" with {threads} thread{'s' * (threads != 1)}" if threads and device == "cpu" else ""),
        dtype,
        None if seconds is None else f"roughly {time_text(seconds)}",
    ]
    return f"training {model}: " + ", ".join(part for part in parts if part)
