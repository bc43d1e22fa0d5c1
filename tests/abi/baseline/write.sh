#!/usr/bin/env bash
# write.sh LIBRARY: the interface of a built libmambasdk as abidw sees it, on standard output. `make abi-baseline` keeps it.
set -euo pipefail
exec abidw --no-corpus-path --no-comp-dir-path --no-architecture --no-show-locs --no-elf-needed --drop-private-types \
  --headers-dir "$(dirname "$0")/../../../cpp/include" "$1"
