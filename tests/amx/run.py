"""Runs C++ tests on an emulated processor with AMX: python tests/amx/run.py PROGRAM [ARGUMENT…]

Bochs, a kernel and a boot loader come from Debian packages, which are unpacked below build/amx, never installed. The
program and the libraries that `ldd` lists become the machine's whole system. Needs Linux on x86-64, gcc with a static C
library, dpkg-deb and zstd or xz as dpkg-deb needs them, and 550 MB. Exits with the program's status. Page: docs/amx.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import tty
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "amx"
MIRROR = os.environ.get("DEBIAN_MIRROR", "https://deb.debian.org/debian")
# Bochs 3.0: 3.1 of forky divides wrongly. The kernel must know setcpuid= (6.16 and later).
TOOLS = {"trixie": ["bochs", "bochs-term", "bochsbios", "vgabios", "genisoimage", "isolinux", "syslinux-common"]}
KERNEL = {"trixie-backports": ["linux-image-6.18.15+deb13-cloud-amd64"]}
LIMIT = float(os.environ.get("AMX_LIMIT", "3600"))  # seconds

# No waitpkg: Bochs sleeps in earnest for it. No la57: it cannot leave system management mode with it.
BOCHSRC = """
display_library: term
cpu: model=sapphire_rapids, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1, \
exclude_features="waitpkg la57 vmx smx cet"
memory: guest=1024, host=1024
romimage: file={bochs}/BIOS-bochs-latest
vgaromimage: file={bochs}/VGABIOS-lgpl-latest
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={work}/boot.iso, status=inserted
boot: cdrom
log: {work}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
com1: enabled=1, mode=term, dev={serial}
clock: sync=none
"""
# 324 is XFD, without which the kernel gives no tiles; the retpolines spare Bochs code that changes under it.
ISOLINUX = """
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=ttyS0,115200 loglevel=1 nokaslr panic=-1 setcpuid=324 no5lvl spectre_v2=retpoline,generic
"""


def index(suite: str) -> dict[str, dict[str, str]]:
    """The packages of a suite by name, and by what they provide."""
    with urllib.request.urlopen(f"{MIRROR}/dists/{suite}/main/binary-amd64/Packages.xz") as answer:
        text = lzma.decompress(answer.read()).decode()
    packages: dict[str, dict[str, str]] = {}
    provided: dict[str, dict[str, str]] = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
        if fields:
            packages[fields["Package"]] = fields
            for name in re.findall(r"([a-z0-9][a-z0-9+.-]*)(?: \([^)]*\))?(?:, |$)", fields.get("Provides", "")):
                provided.setdefault(name, fields)
    return provided | packages


def closure(packages: dict[str, dict[str, str]], roots: list[str]) -> list[dict[str, str]]:
    """The packages `roots` and all that they depend on, the first alternative of each."""
    wanted = list(roots)
    found: dict[str, dict[str, str]] = {}
    while wanted:
        package = packages[wanted.pop()]
        if package["Package"] in found:
            continue
        found[package["Package"]] = package
        for group in filter(None, (package.get(field, "") for field in ("Depends", "Pre-Depends"))):
            for choice in group.split(","):
                names = [re.split(r"[ (:]", name.strip())[0] for name in choice.split("|")]
                known = [name for name in names if name in packages]
                if not any(name in roots or packages[name]["Package"] in found for name in known):
                    wanted += known[:1]
    return list(found.values())


def unpack(package: dict[str, str], to: Path) -> None:
    """Download (once), check, unpack."""
    file = WORK / "packages" / Path(package["Filename"]).name
    if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != package["SHA256"]:
        with urllib.request.urlopen(f"{MIRROR}/{package['Filename']}") as answer:
            file.write_bytes(answer.read())
    if hashlib.sha256(file.read_bytes()).hexdigest() != package["SHA256"]:
        raise SystemExit(f"{file.name}: the checksum is not that of the index")
    subprocess.run(["dpkg-deb", "-x", file, to], check=True)


def prepare() -> Path:
    """The folder with everything unpacked."""
    root, done = WORK / "root", WORK / "unpacked"
    wanted = f"{TOOLS} {KERNEL}"
    if done.exists() and done.read_text() == wanted:
        return root
    shutil.rmtree(root, ignore_errors=True)
    (WORK / "packages").mkdir(parents=True, exist_ok=True)
    for suite, names in TOOLS.items():
        packages = closure(index(suite), names)
        print(f"unpacking {len(packages)} packages of {suite} into {root}", flush=True)
        for package in packages:
            unpack(package, root)
    for suite, names in KERNEL.items():
        known = index(suite)
        for name in names:
            unpack(known[name], root)
    done.write_text(wanted)
    return root


def foreign(root: Path, program: str) -> list[str | Path]:
    """How to run an unpacked program: by its own loader, with its own libraries."""
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    return [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, root / "usr" / "bin" / program]


def archive(files: dict[str, bytes]) -> bytes:
    """A cpio archive (newc) of executable files and the folders that they need, /dev/console, /proc and /tmp."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    entries = [(name, 0o40755, b"", 0, 0) for name in sorted(folders | {"dev", "proc", "tmp"})]
    entries += [("dev/console", 0o20600, b"", 5, 1)]
    entries += [(name, 0o100755, data, 0, 0) for name, data in files.items()]
    out = bytearray()
    for number, (name, mode, data, major, minor) in enumerate([*entries, ("TRAILER!!!", 0, b"", 0, 0)], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(encoded), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def make_disk(root: Path, program: Path, arguments: list[str]) -> None:
    """boot.iso: the kernel, and a system that holds the program."""
    init = WORK / "init"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", init, HERE / "init.c"], check=True)
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    lines = ["MAMBASDK_TEST_ISA=avx512_amx", "/program", *arguments]
    files = {"init": init.read_bytes(), "program": program.read_bytes(), "arguments": "\n".join(lines).encode()}
    for library in re.findall(r"(/\S+) \(0x", listing):
        files[library.lstrip("/")] = Path(library).read_bytes()
    disk = WORK / "disk"
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    shutil.copy(root / "usr/lib/ISOLINUX/isolinux.bin", disk)
    shutil.copy(root / "usr/lib/syslinux/modules/bios/ldlinux.c32", disk)
    shutil.copy(next((root / "boot").glob("vmlinuz-*")), disk / "vmlinuz")
    (disk / "initrd").write_bytes(archive(files))
    (disk / "isolinux.cfg").write_text(ISOLINUX)
    boot = ["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    subprocess.run([*foreign(root, "genisoimage"), "-quiet", "-o", WORK / "boot.iso", *boot, disk], check=True)


def emulate(root: Path) -> int:
    """Boots, prints what the machine prints, and returns the program's status."""
    serial, device = pty.openpty()
    tty.setraw(device)
    bochs = root / "usr" / "share" / "bochs"
    (WORK / "bochsrc").write_text(BOCHSRC.format(bochs=bochs, work=WORK, serial=os.ttyname(device)))
    os.environ.update(
        LTDL_LIBRARY_PATH=str(root / "usr/lib/x86_64-linux-gnu/bochs/plugins"), BXSHARE=str(bochs), TERM="vt100"
    )
    command = [str(word) for word in [*foreign(root, "bochs-bin"), "-q", "-f", WORK / "bochsrc"]]
    child, screen = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    begin, printed = time.monotonic(), b""
    status: int | None = None
    while status is None and time.monotonic() - begin < LIMIT:
        ready, _, _ = select.select([serial, screen], [], [], 1)
        if serial in ready:
            data = os.read(serial, 65536)
            sys.stdout.buffer.write(data.replace(b"\r", b""))
            sys.stdout.flush()
            printed = (printed + data)[-4000:]
            found = re.search(rb"emulated: exit status (\d+)", printed)
            status = int(found[1]) if found else None
        elif screen in ready:
            try:
                os.read(screen, 65536)
            except OSError:  # Bochs is gone
                break
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, 9)
    os.waitpid(child, 0)
    print(f"\nemulated: {time.monotonic() - begin:.0f} s")
    if status is None:
        print(f"emulated: no result, see {WORK / 'bochs.log'}")
        return 1
    return status


def main() -> int:
    """Command line."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    root = prepare()
    make_disk(root, Path(sys.argv[1]).resolve(), sys.argv[2:])
    return emulate(root)


if __name__ == "__main__":
    sys.exit(main())
