#!/bin/sh
# navigation.sh: makes the list of links that each page has at its side.
set -eu
awk -F '\t' '
    BEGIN { print "<ul>" }
    { printf "<li><a href=\"%s.html\">%s</a></li>\n", $1, $2 }
    END { print "</ul>" }
' tmp/titles >tmp/navigation.html
cat tmp/navigation.html
