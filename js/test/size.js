// What the core weighs in a page: minified and compressed.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/**
 * @param {string} entry
 * @returns {Promise<{minified: number, gzip: number, text: string}>} bytes
 */
export async function weigh(entry) {
  const { outputFiles } = await build({
    entryPoints: [new URL(entry, import.meta.url).pathname],
    bundle: true, minify: true, format: 'esm', target: 'es2022', external: ['react'], write: false,
  });
  const { contents, text } = outputFiles[0];
  return { minified: contents.length, gzip: gzipSync(contents, { level: 9 }).length, text };
}

if (import.meta.url === `file://${process.argv[1]}`) {
  for (const entry of ['../src/index.js', '../src/react.js', '../src/webhooks.js']) {
    const { minified, gzip } = await weigh(entry);
    console.log(`${entry.slice(3)}: ${minified} bytes minified, ${gzip} with gzip`);
  }
}
