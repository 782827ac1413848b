#!/bin/sh
# render.sh PAGE: makes tmp/PAGE.html of src/PAGE.md.
set -eu
mkdir -p tmp
echo "rendering $1"
sleep "${2:-1}" # a larger page would take its time
awk -f bin/render.awk "src/$1.md" >"tmp/$1.html"
echo "$1: $(wc -l <"tmp/$1.html" | tr -d ' ') lines of HTML"
