#!/bin/sh
# check-pages.sh: fails if a page has not exactly one first heading, or leaves an element open.
set -eu
bad=0
for file in public/*.html; do
    headings=$(grep -c '<h1' "$file" || true)
    if [ "$headings" -ne 1 ]; then
        echo "$file: $headings first headings, want 1" >&2
        bad=1
    fi
    for element in p ul li pre code strong a main nav section; do
        opened=$(tr '<' '\n' <"$file" | grep -c "^$element[ >]" || true)
        closed=$(tr '<' '\n' <"$file" | grep -c "^/$element>" || true)
        if [ "$opened" -ne "$closed" ]; then
            echo "$file: $opened times <$element>, $closed times </$element>" >&2
            bad=1
        fi
    done
done
[ "$bad" -eq 0 ] && echo "all pages are sound"
