#!/bin/sh
# finish.sh: takes the comments out of the styles, and says how large the site is.
set -eu
sed '/^\/\*.*\*\/$/d; s/^ *//; /^$/d' public/assets/docs.css >tmp/docs.css
mv tmp/docs.css public/assets/docs.css
for file in public/*.html public/assets/*; do
    printf '%8d  %s\n' "$(wc -c <"$file")" "$file"
done
sleep 1 # a larger site would be packed here
echo "site is ready: $(ls public/*.html | wc -l | tr -d ' ') pages"
