// Makes a page of the words of the package beside this one.
import { mkdirSync, writeFileSync } from 'node:fs'
import { words } from 'words'

mkdirSync('dist', { recursive: true })
writeFileSync('dist/index.html', `<!doctype html>
<meta charset="utf-8">
<title>Words</title>
<h1>Words</h1>
<ul>
${words.map((word) => `  <li>${word}</li>`).join('\n')}
</ul>
`)
console.log(`a page of ${words.length} words`)
