#!/bin/sh
# check-links.sh: fails if a page links to a page, an asset or a heading that is not there.
set -eu
broken=0
checked=0
for file in public/*.html; do
    for target in $(tr '<' '\n' <"$file" | sed -n 's/.* href="\([^"]*\)".*/\1/p; s/.* src="\([^"]*\)".*/\1/p' | sort -u); do
        case $target in
        http:* | https:* | mailto:*) continue ;;
        esac
        checked=$((checked + 1))
        path=${target%%#*}
        case $path in
        '') path=$file ;;
        /) path=public/index.html ;;
        /*) path=public$path ;;
        *) path=public/$path ;;
        esac
        if [ ! -f "$path" ]; then
            echo "$file: broken link $target" >&2
            broken=$((broken + 1))
        elif [ "$target" != "${target#*#}" ] && ! grep -q "id=\"${target#*#}\"" "$path"; then
            echo "$file: no heading for $target" >&2
            broken=$((broken + 1))
        fi
    done
done
echo "$checked links checked, $broken broken"
[ "$broken" -eq 0 ] && [ "$checked" -gt 0 ]
