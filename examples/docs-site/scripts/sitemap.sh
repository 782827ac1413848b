#!/bin/sh
# sitemap.sh: makes public/sitemap.xml.
set -eu
mkdir -p public
{
    echo '<?xml version="1.0" encoding="UTF-8"?>'
    echo '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    cut -f 1 tmp/titles | sed 's|.*|  <url><loc>https://docs.example.com/&.html</loc></url>|'
    echo '</urlset>'
} >public/sitemap.xml
echo "site map: $(grep -c '<loc>' public/sitemap.xml) pages"
