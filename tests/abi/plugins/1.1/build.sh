#!/usr/bin/env bash
# Made libabi11-x86_64.so, once, from the frozen header. For the record: the binary must not be made again.
set -euo pipefail
cd "$(dirname "$0")"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -nostdlib -Wl,--build-id=none,-z,noseparate-code -s \
  -I../../headers/1.1 plugin.c -o "${1:-libabi11-x86_64.so}"
