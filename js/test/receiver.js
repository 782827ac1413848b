// A receiver of webhooks that asks each library what it thinks of a request, and answers with what they say. The
// requests are real ones: internal/webhook/request/libraries_test.go sends them.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { Webhook as Svix1Webhook } from 'svix-1';
import { Webhook as Svix2Webhook } from 'svix-2';
import { verify, verifyBody } from '../src/webhooks.js';

// The lines that the documentation gives for the libraries, as a function of what they use.
const page = readFileSync(new URL('../../docs/webhooks-receiving.md', import.meta.url), 'utf8');
const [, , lines] = page.match(/^(import \{ Webhook \} from 'standardwebhooks';.*\n)([^`]*)```/m);
const documented = (Webhook, secret, options, body, headers) => {
  const WithOptions = class { constructor(text) { return new Webhook(text, options); } };
  return new Function('Webhook', 'process', 'body', 'headers', `${lines}; return event;`)(
    WithOptions, { env: { WEBHOOK_SECRET: secret } }, body, headers);
};

const verdict = async (check) => {
  try {
    return { payload: await check() };
  } catch (error) {
    return { refused: error.message };
  }
};

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  // The test says in the URL what a receiver has in its configuration.
  const secret = new URL(request.url, 'http://receiver').searchParams.get('secret');
  const options = secret.startsWith('whsec_') ? {} : { format: 'raw' };
  const { headers } = request;
  response.end(JSON.stringify({
    standardwebhooks: await verdict(() => documented(StandardWebhook, secret, options, body, headers)),
    'svix 1': await verdict(() => documented(Svix1Webhook, secret, options, body, headers)),
    'svix 2': await verdict(() => documented(Svix2Webhook, secret, options, body, headers)),
    buildcast: await verdict(() => verify(headers, body, secret)),
    'buildcast X-Webhook-Signature': await verdict(() => verifyBody(headers, body, secret)),
  }));
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume(); // with the test that started it
