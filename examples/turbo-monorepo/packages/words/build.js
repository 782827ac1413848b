// Makes a module of the words.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const words = readFileSync('words.txt', 'utf8').trim().split('\n')
mkdirSync('dist', { recursive: true })
writeFileSync('dist/index.js', `export const words = ${JSON.stringify(words)}\n`)
console.log(`${words.length} words`)
