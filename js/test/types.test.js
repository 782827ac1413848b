import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(root, 'node_modules/typescript/bin/tsc');

const consumer = `
import { BuildProgress, type BuildError } from 'buildcast';
import { useBuild } from 'buildcast/react';
import { sign, verify, verifyBody, WebhookError } from 'buildcast/webhooks';
const progress = new BuildProgress('id', { url: 'https://h', token: async () => 't', transports: ['sse'] });
progress.addEventListener('update', ({ detail }) => {
  const id: number = detail.events[0].id + detail.lastEventId;
  const phase: 'queued' | string | undefined = detail.status?.status;
  void [id, phase];
});
progress.addEventListener('error', ({ detail }) => { const error: BuildError = detail; void error.fatal; });
progress.addEventListener('transport', ({ detail }) => { const shared: boolean = detail.shared; void shared; });
// @ts-expect-error there is no such detail
progress.addEventListener('end', ({ detail }) => detail.events);
// @ts-expect-error there is no such transport
new BuildProgress('id', { transports: ['pigeon'] });
export async function all() { for await (const event of progress) console.log(event.type, event.data); }
export async function receive(request: Request, headers: Record<string, string | string[] | undefined>) {
  const { type, data } = await verify(request.headers, await request.text(), ['whsec_a', 'whsec_b'], { tolerance: 1000 });
  const buildId: string = (await verifyBody(headers, new Uint8Array(await request.arrayBuffer()), 'whsec_a')).buildId;
  const header: string = await sign('msg_1', new Date(), '{}', 'whsec_a');
  const code: 'no_match' | 'bad_secret' | 'timestamp' | 'missing_header' = new WebhookError('no_match', 'no').code;
  // @ts-expect-error a parsed body is not the body
  await verify(request.headers, await (request.json() as Promise<{ a: 1 }>), 'whsec_a');
  return [type, data, buildId, header, code];
}
export const view = () => useBuild('id').status?.progress;
`;

test('the package that is published has types that TypeScript users can use', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'buildcast-types-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const installed = join(dir, 'node_modules/buildcast');
  execFileSync(process.execPath, [tsc, '-p', root, '--noEmit', 'false', '--emitDeclarationOnly', '--outDir', join(installed, 'types')]);
  for (const part of ['src', 'package.json']) cpSync(join(root, part), join(installed, part), { recursive: true });
  symlinkSync(join(root, 'node_modules/@types'), join(dir, 'node_modules/@types'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  writeFileSync(join(dir, 'use.ts'), consumer);
  const flags = '--noEmit --strict --module nodenext --target es2022 --lib es2023,dom,dom.asynciterable --types react use.ts';
  let output = '';
  try {
    execFileSync(process.execPath, [tsc, ...flags.split(' ')], { cwd: dir, encoding: 'utf8' });
  } catch (failed) {
    output = failed.stdout;
  }
  assert.equal(output, '');
});
