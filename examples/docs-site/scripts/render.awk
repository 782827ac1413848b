# Makes HTML of the Markdown that these pages use: headings, paragraphs, lists,
# code blocks, and within a line `code`, **strong** and [text](target).
# A link to another page is written as its .md file and becomes its .html file.

function escape(s) {
    gsub(/&/, "\\&amp;", s)
    gsub(/</, "\\&lt;", s)
    gsub(/>/, "\\&gt;", s)
    return s
}

function wrap(s, mark, width, tag,    i, j) {
    while ((i = index(s, mark)) && (j = index(substr(s, i + width), mark)))
        s = substr(s, 1, i - 1) "<" tag ">" substr(s, i + width, j - 1) "</" tag ">" substr(s, i + j + 2 * width - 1)
    return s
}

function links(s,    text, target) {
    while (match(s, /\[[^]]*\]\([^)]*\)/)) {
        text = substr(s, RSTART + 1, RLENGTH - 2)
        target = text
        sub(/\]\(.*/, "", text)
        sub(/.*\]\(/, "", target)
        sub(/\.md$/, ".html", target)
        sub(/\.md#/, ".html#", target)
        s = substr(s, 1, RSTART - 1) "<a href=\"" target "\">" text "</a>" substr(s, RSTART + RLENGTH)
    }
    return s
}

function inline(s) { return links(wrap(wrap(escape(s), "`", 1, "code"), "**", 2, "strong")) }

function slug(s) {
    s = tolower(s)
    gsub(/[^a-z0-9]+/, "-", s)
    gsub(/^-|-$/, "", s)
    return s
}

function close_block() {
    if (block == "p") print "<p>" text "</p>"
    if (block == "ul") print "</ul>"
    block = ""
    text = ""
}

/^```/ {
    if (block == "pre") { print "</code></pre>"; block = ""; next }
    close_block()
    printf "<pre tabindex=\"0\"><code>"
    block = "pre"
    next
}
block == "pre" { print escape($0); next }
/^#+ / {
    close_block()
    level = index($0, " ") - 1
    title = substr($0, level + 2)
    printf "<h%d id=\"%s\">%s</h%d>\n", level, slug(title), inline(title), level
    next
}
/^- / {
    if (block != "ul") { close_block(); print "<ul>"; block = "ul" }
    print "<li>" inline(substr($0, 3)) "</li>"
    next
}
/^$/ { close_block(); next }
{
    if (block != "p") { close_block(); block = "p" }
    text = text (text == "" ? "" : " ") inline($0)
}
END { if (block == "pre") print "</code></pre>"; else close_block() }
