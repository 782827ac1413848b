#!/bin/sh
# layout.sh PAGE TITLE: puts the page's HTML from standard input into the site's frame.
# Links are relative, so that the site works under any path; BASE is put before them.
set -eu
cat <<HEAD
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$2 - buildcast docs</title>
<link rel="stylesheet" href="${BASE-}assets/docs.css">
<script src="${BASE-}assets/search-index.js" defer></script>
<script src="${BASE-}assets/docs.js" defer></script>
</head>
<body>
<a class="skip" href="#main">Skip to the text</a>
<header>
<a class="home" href="${BASE-}index.html">buildcast <span>docs</span></a>
<form role="search"><label for="q">Search</label><input id="q" type="search" autocomplete="off"><ul id="results" aria-live="polite"></ul></form>
</header>
<div class="columns">
<nav aria-label="Pages">
HEAD
sed "s|href=\"$1.html\"|href=\"$1.html\" aria-current=\"page\"|; s|href=\"|href=\"${BASE-}|" tmp/navigation.html
printf '</nav>\n<main id="main">\n'
cat
printf '</main>\n</div>\n</body>\n</html>\n'
