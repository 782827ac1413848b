#!/bin/sh
# titles.sh: writes tmp/titles, a line "PAGE<tab>TITLE" for each page in reading order.
set -eu
mkdir -p tmp
: >tmp/titles
while read -r page; do
    title=$(sed -n 's/^# //p' "src/$page.md" | sed -n 1p)
    printf '%s\t%s\n' "$page" "$title" >>tmp/titles
done <src/order.txt
cat tmp/titles
