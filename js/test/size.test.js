import assert from 'node:assert/strict';
import { test } from 'node:test';
import { weigh } from './size.js';

test('the core weighs at most 7 kB, and knows nothing of React or webhooks', async () => {
  const { gzip, text } = await weigh('../src/index.js');
  assert.ok(gzip <= 7000, `${gzip} bytes`);
  assert.doesNotMatch(text, /react|webhook/i);
});

test('with React it weighs little more', async () => {
  const { gzip } = await weigh('../src/react.js');
  assert.ok(gzip <= 7400, `${gzip} bytes`);
});
