#!/bin/sh
# assemble.sh: makes public/PAGE.html of each page, with links to its neighbours.
set -eu
mkdir -p public
tab=$(printf '\t')
while IFS="$tab" read -r page title; do
    {
        cat "tmp/$page.html"
        awk -F '\t' -v page="$page" '
            $1 == page { found = 1; if (before != "") printf "<a rel=\"prev\" href=\"%s.html\">%s</a>\n", before, before_title; next }
            found { printf "<a rel=\"next\" href=\"%s.html\">%s</a>\n", $1, $2; exit }
            { before = $1; before_title = $2 }
        ' tmp/titles | sed '1s/^/<p class="neighbours">/; $s/$/<\/p>/'
    } | sh bin/layout.sh "$page" "$title" >"public/$page.html"
    echo "public/$page.html"
done <tmp/titles
