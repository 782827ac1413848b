import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(root, 'node_modules/typescript/bin/tsc');

const consumer = `
import { BuildProgress, type BuildError, type BuildEvent, type EventData, type Options, type Phase, type Status, type Transport } from 'buildcast';
import { useBuild } from 'buildcast/react';
import { sign, verify, verifyBody, WebhookError } from 'buildcast/webhooks';
const transports: Transport[] = ['sse'];
const options: Options = { url: 'https://h', token: async () => 't', transports };
const progress = new BuildProgress('id', options);
progress.addEventListener('update', ({ detail }) => {
  const id: number = detail.events[0].id + detail.lastEventId;
  const phase: Phase | undefined = detail.status?.status;
  // @ts-expect-error the status may not be known
  void detail.status.progress;
  void [id, phase];
});
progress.addEventListener('status', ({ detail }) => { const status: Status = detail; void status.firstEventId; });
progress.addEventListener('error', ({ detail }) => { const error: BuildError = detail; void error.fatal; });
progress.addEventListener('transport', ({ detail }) => { const shared: boolean = detail.shared; void shared; });
progress.addEventListener('gap', ({ detail: { from, to } }) => void (to - from));
progress.addEventListener('missing', { handleEvent: ({ detail }) => void detail.buildId }, { once: true });
progress.addEventListener('close', (event: Event) => void event);
// @ts-expect-error there is no such event
progress.addEventListener('udpate', () => {});
// @ts-expect-error there is no such event
progress.removeEventListener('udpate', () => {});
// @ts-expect-error there is no such detail
progress.addEventListener('end', ({ detail }) => detail.events);
// @ts-expect-error there is no such transport
new BuildProgress('id', { transports: ['pigeon'] });
new BuildProgress('id', { from: 'latest' });
// @ts-expect-error a number goes into lastEventId
new BuildProgress('id', { from: 7 });
new BuildProgress('id', { tail: 20 });
export async function all() { for await (const event of progress) console.log(event.type, event.data.message); }
export function read(event: BuildEvent) {
  if (event.type === 'task_failed') {
    const again: boolean | undefined = event.data.willRetry;
    // @ts-expect-error it is no number
    const code: string | undefined = event.data.exitCode;
    return [again, code];
  }
  if (event.type === 'plan_generated') return event.data.tasks?.map((name) => name.length);
  if (event.type === 'lighthouse') { // a type of one's own
    const score: unknown = event.data.score;
    // @ts-expect-error it may be anything
    return score + 1;
  }
  return 0;
}
export const drawn: { [Type in keyof EventData]?: (data: EventData[Type]) => void } = {
  build_log: ({ lines = [] }) => lines.join(),
  // @ts-expect-error a plan has no lines
  plan_started: ({ lines }) => lines,
};
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

/** What the examples take from the page around them. */
const surroundings = `
declare module 'socket.io-client' { export function io(url: string, options?: object): Socket; }
interface Socket {
  on(name: string, listener: (...args: any[]) => void): this;
  emit(name: string, ...args: any[]): this;
  emitWithAck(name: string, ...args: any[]): Promise<any>;
}
declare const buildId: string, token: string, socket: Socket, request: Request;
declare const process: { env: Record<string, string | undefined> };
declare const bar: HTMLProgressElement, list: HTMLElement;
declare function row(event: import('buildcast').BuildEvent): Node;
declare function show(text: string | undefined): void;
declare function fail(error: unknown): void;
declare function draw(...seen: unknown[]): void;
declare function render(events: import('buildcast').BuildEvent[], status: import('buildcast').Status | null): void;
`;

/** The package as it is published, installed in a directory of its own. */
function install() {
  const dir = mkdtempSync(join(tmpdir(), 'buildcast-types-'));
  after(() => rmSync(dir, { recursive: true }));
  const installed = join(dir, 'node_modules/buildcast');
  execFileSync(process.execPath, [tsc, '-p', root, '--noEmit', 'false', '--emitDeclarationOnly', '--outDir', join(installed, 'types')]);
  for (const part of ['src', 'package.json']) cpSync(join(root, part), join(installed, part), { recursive: true });
  symlinkSync(join(root, 'node_modules/@types'), join(dir, 'node_modules/@types'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  return dir;
}

/** The examples of a README as files, by name. One that has no import goes on from the one before. */
function examples(readme) {
  const text = readFileSync(join(root, readme), 'utf8');
  const files = {};
  let before = '';
  for (const [, language, code] of text.matchAll(/^```(js|jsx|ts|tsx)\n(.*?)^```/gms)) {
    const name = `${readme.replaceAll(/\W/g, '')}${Object.keys(files).length + 1}.${language.replace('js', 'ts')}`;
    before = /^import /m.test(code) ? code : before + code;
    files[name] = before;
  }
  return files;
}

/** What the compiler complains of, in each of the files. */
let complaints;
function complaintsOf(part) {
  if (complaints === undefined) {
    const dir = install();
    const files = { 'use.ts': consumer, 'around.d.ts': surroundings, ...examples('README.md'), ...examples('../README.md') };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
    const flags = '--noEmit --strict --jsx preserve --module nodenext --target es2022 --lib es2023,dom,dom.asynciterable --types react';
    const { stdout } = spawnSync(process.execPath, [tsc, ...flags.split(' '), ...Object.keys(files)], { cwd: dir, encoding: 'utf8' });
    complaints = stdout.trim().split(/\n(?! )/);
  }
  return complaints.filter((each) => part.test(each));
}

test('the package that is published has types that TypeScript users can use', () => {
  assert.deepEqual(complaintsOf(/^(?!\w*README)./), []);
});

test('the examples of the READMEs compile under strict', () => {
  assert.ok(Object.keys(examples('README.md')).length >= 5);
  assert.ok(Object.keys(examples('../README.md')).length >= 2);
  assert.deepEqual(complaintsOf(/^\w*README/), []);
});

test('npm pack works on a fresh clone, and what it packs has types and a licence', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'buildcast-pack-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const clone = join(dir, 'js');
  for (const part of ['src', 'package.json', 'package-lock.json', 'tsconfig.json', 'pack.js', 'README.md']) {
    cpSync(join(root, part), join(clone, part), { recursive: true });
  }
  cpSync(join(root, '../LICENSE'), join(dir, 'LICENSE'));
  // In place of the network: an npm whose ci installs what is installed here.
  const bin = join(dir, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'npm'), `#!/bin/sh\n[ "$1" = ci ] && ln -s '${root}node_modules' node_modules\n`, { mode: 0o755 });
  const env = { ...process.env, npm_config_offline: 'true' };
  const npm = execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim();
  const scripts = JSON.parse(readFileSync(join(clone, 'package.json'), 'utf8'));
  assert.equal(scripts.scripts.prepack, 'node pack.js');
  execFileSync(process.execPath, ['pack.js'], { cwd: clone, env: { ...env, PATH: `${bin}:${env.PATH}` }, stdio: 'pipe' });
  const [{ files }] = JSON.parse(execFileSync(npm, ['pack', '--json', '--ignore-scripts', '--dry-run'], { cwd: clone, env, encoding: 'utf8' }));
  const packed = files.map(({ path }) => path);
  for (const path of ['LICENSE', 'README.md', 'src/index.js', 'src/react.js', 'types/index.d.ts', 'types/react.d.ts', 'types/webhooks.d.ts', 'types/types.d.ts']) {
    assert.ok(packed.includes(path), `${path} is not packed: ${packed}`);
  }
  assert.ok(!packed.some((path) => /test|node_modules/.test(path)), String(packed));
});
