// What npm runs before it packs: the types, and the licence beside the package. Neither is in the repository.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync } from 'node:fs';

const at = (/** @type {string} */ path) => new URL(path, import.meta.url);
const here = { cwd: at('.'), stdio: /** @type {['ignore', 2, 2]} */ (['ignore', 2, 2]) }; // stdout is npm's answer

if (!existsSync(at('node_modules/typescript'))) execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], here);
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.', '--noEmit', 'false', '--emitDeclarationOnly'], here);
copyFileSync(at('../LICENSE'), at('LICENSE'));
