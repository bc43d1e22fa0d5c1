#!/usr/bin/env bash
# Made libabi10-x86_64.so, once, from the frozen header. For the record: the binary must not be made again.
set -euo pipefail
cd "$(dirname "$0")"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -nostdlib -Wl,--build-id=none,-z,noseparate-code -s \
  -I../../headers/1.0 plugin.c -o "${1:-libabi10-x86_64.so}"
