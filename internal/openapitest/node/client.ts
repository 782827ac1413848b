// A client of what openapi-typescript makes of the document: node client.js URL
import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

const api = createClient<paths>({ baseUrl: process.argv[2] });

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

const made = await api.POST('/api/builds', { body: { id: 'ts', project: 'types' } });
check(made.response.status === 201 && made.data?.id === 'ts', 'creating a build');

const event: components['schemas']['NewEvent'] = { type: 'task_started', data: { taskName: 'a' }, key: 'a' };
const appended = await api.POST('/api/builds/{id}/events', { params: { path: { id: 'ts' } }, body: [event, event] });
check(appended.response.status === 201, 'appending');

const page = await api.GET('/api/builds/{id}/events', { params: { path: { id: 'ts' }, query: { lastEventId: 0, limit: 10 } } });
check(typeof page.data === 'object' && page.data.events.length === 1 && page.data.lastEventId === 1, 'polling');

const list = await api.GET('/api/builds', { params: { query: { project: 'types', limit: 1 } } });
check(list.data?.builds?.[0]?.status === 'executing' || list.data?.builds?.[0]?.status === 'queued', 'listing');

const missing = await api.GET('/api/builds/{id}', { params: { path: { id: 'none' } } });
check(missing.error?.code === 'not_found', 'a build that does not exist');
