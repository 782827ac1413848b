import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import test from 'node:test';

import { fold, queued } from '../src/fold.js';

// The vectors are those of the server's own fold (status_test.go).
const folder = new URL('../../testdata/fold/', import.meta.url);
const created = Date.parse('2026-11-23T07:13:50.000Z');
const at = (seconds) => new Date(created + 1000 * seconds).toISOString();

for (const file of readdirSync(folder)) {
  for (const { name, events, status } of JSON.parse(readFileSync(new URL(file, folder), 'utf8'))) {
    test(`fold: ${name}`, () => {
      let folded = { ...queued('27'), project: 'site', createdAt: at(0), updatedAt: at(0) };
      events.forEach((event, i) => {
        const before = structuredClone(folded);
        const after = fold(folded, { ...event, id: i + 1, buildId: '27', timestamp: at(i + 1) });
        assert.deepEqual(folded, before, 'the status before the event does not change');
        folded = after;
      });
      assert.deepEqual(folded, status);
    });
  }
}
