#!/bin/sh
# words.sh: counts the words of each page.
set -eu
while read -r page; do
    printf '%6d  %s\n' "$(wc -w <"src/$page.md")" "$page"
done <src/order.txt | sort -rn
