#!/bin/sh
# tools.sh: fails at once, and by name, if a tool is missing.
set -eu
for tool in awk sed sort tr cut grep wc cmp diff; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
    echo "found $tool"
done
