// A receiver of webhooks that asks each library what it thinks of a request, and answers with what they say. The
// requests are real ones: internal/webhook/request/libraries_test.go sends them.
import { createServer } from 'node:http';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { verify, verifyBody } from '../src/webhooks.js';

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
    standardwebhooks: await verdict(() => new StandardWebhook(secret, options).verify(body, headers)),
    svix: await verdict(() => new SvixWebhook(secret, options).verify(body, headers)),
    buildcast: await verdict(() => verify(headers, body, secret)),
    'buildcast X-Webhook-Signature': await verdict(() => verifyBody(headers, body, secret)),
  }));
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume(); // with the test that started it
