#!/bin/sh
# index.sh: makes public/index.html, the table of contents with each page's first paragraph.
set -eu
mkdir -p public
{
    echo '<h1>buildcast documentation</h1>'
    echo '<p class="lead">Watch a long build while it runs. These pages were made by a build that you could watch.</p>'
    echo '<div class="cards">'
    tab=$(printf '\t')
    while IFS="$tab" read -r page title; do
        printf '<section><h2><a href="%s.html">%s</a></h2>\n' "$page" "$title"
        sed -n '/^<p>/{p;q;}' "tmp/$page.html"
        echo '</section>'
    done <tmp/titles
    echo '</div>'
} | sh bin/layout.sh index Contents >public/index.html
