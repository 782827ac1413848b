#!/bin/sh
# search.sh: makes the search index, the words of each page as a script, so that
# it loads without a request that a sandboxed preview would not be allowed.
set -eu
mkdir -p public/assets
tab=$(printf '\t')
{
    echo 'const searchIndex = ['
    while IFS="$tab" read -r page title; do
        words=$(sed 's/<[^>]*>/ /g; s/&[a-z]*;/ /g' "tmp/$page.html" | tr -cs 'A-Za-z0-9' '\n' | tr 'A-Z' 'a-z' |
            awk 'length > 2' | sort -u | tr '\n' ' ')
        printf '  { page: "%s.html", title: "%s", words: "%s" },\n' "$page" "$title" "$words"
    done <tmp/titles
    echo '];'
} >public/assets/search-index.js
echo "search index: $(wc -c <public/assets/search-index.js | tr -d ' ') bytes"
