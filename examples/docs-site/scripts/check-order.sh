#!/bin/sh
# check-order.sh: fails if a page is not in the reading order, or has no title.
set -eu
mkdir -p tmp
ls src | sed -n 's/\.md$//p' | sort >tmp/pages
sort src/order.txt >tmp/ordered
if ! cmp -s tmp/pages tmp/ordered; then
    echo "src/order.txt and the pages in src differ:" >&2
    diff tmp/ordered tmp/pages >&2
    exit 1
fi
while read -r page; do
    grep -q '^# ' "src/$page.md" || { echo "src/$page.md has no title" >&2; exit 1; }
done <src/order.txt
echo "$(wc -l <src/order.txt | tr -d ' ') pages in order"
