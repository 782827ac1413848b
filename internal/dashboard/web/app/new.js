// The page that starts a build: from a prompt, a plan file or an example.

import { $, el, setText } from './dom.js';
import { call, home } from './api.js';
import { PlanFile, planOf } from './planfile.js';

const maxPrompt = 32 * 1024; // bytes, as the server's
const examples = ['hello-site'];
const fields = ['prompt', 'project', 'deploy', 'planner', 'key'];
const targets = { local: 'this server', cloudflare: 'Cloudflare Pages', command: 'the server\'s deploy command', none: 'nowhere' };
const sandboxes = { none: 'Commands run as the server\'s user, without a sandbox.', unavailable: 'No sandbox works on this server: it refuses to run commands.' };

const form = $('form');
const file = new PlanFile();
let server; // what it is set up for
let attempt = ''; // names a request, so that the same one again makes no second build

const way = () => form.elements.way.value;

function chooseWay(name) {
  form.elements.way.value = name;
  for (const each of ['prompt', 'file', 'example']) $(`way-${each}`).hidden = each !== name;
  clearErrors();
  if (name === 'example') showExample();
  else file.show(name === 'file');
  suit();
}

/** Shows what the chosen way needs. */
function suit() {
  const asks = way() === 'prompt' || Boolean(file.plan?.tasks?.some((task) => task.prompt));
  $('planner-field').hidden = !asks || server.planners.length < 2;
  $('deploy').options[0].text = way() === 'prompt' ? 'The default' : 'As the plan says';
  $('start').disabled = way() === 'prompt' && !server.planners.length;
  $('project').placeholder = (way() !== 'prompt' && file.plan?.name) || 'None';
}

async function showExample() {
  const name = $('example').value;
  try {
    const answer = await fetch(`${home}assets/examples/${name}/plan.yaml`);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    await take(`${name}/plan.yaml`, await answer.text());
  } catch (error) {
    setText($('error'), `The example could not be read: ${error.message}.`);
  }
}

/** Takes the text of a plan file, and has it checked. */
async function take(name, text) {
  clearErrors();
  file.take(name, text);
  file.show(true);
  suit();
  try {
    await file.check($('key').value);
  } catch (error) {
    if (error.status === 401) askForKey('This server asks for an API key to check the file and start builds.');
    else if (error.status !== 400 && error.status !== 413) setText($('error'), `The file could not be checked: ${error.message}.`);
  }
  suit();
}

function clearErrors() {
  setText($('error'), '');
  for (const name of fields) {
    setText($(`${name}-error`), '');
    $(name).removeAttribute('aria-invalid');
  }
}

/** Shows an error at the field that it names. */
function fail({ status, message, field = '' }) {
  const name = status === 401 ? 'key' : field;
  if (name === 'key') {
    askForKey($('key').value ? 'This is not a key of this server.' : 'This server asks for an API key to start builds.');
    $('key').focus();
  } else if (fields.includes(name) && !$(name).closest('[hidden]')) {
    setText($(`${name}-error`), sentence(message));
    $(name).setAttribute('aria-invalid', 'true');
    $(name).focus();
  } else if (way() !== 'prompt' && name.startsWith('plan')) {
    file.fail(message);
  } else {
    setText($('error'), sentence(message));
  }
}

function askForKey(why) {
  $('key-field').hidden = false;
  setText($('key-error'), why);
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** The request, or null if something is missing, which is then shown. */
async function request(key) {
  const asked = { project: $('project').value.trim(), deploy: $('deploy').value, noCache: $('noCache').checked };
  if (!$('planner-field').hidden || way() === 'prompt') asked.planner = $('planner').value;
  if (way() === 'prompt') {
    asked.prompt = $('prompt').value;
    if (!asked.prompt.trim()) {
      fail({ field: 'prompt', message: 'say what is to be built' });
      return null;
    }
  } else {
    if (!file.text) {
      setText($('error'), 'Choose a plan file first.');
      $('file').focus();
      return null;
    }
    asked.plan = await file.check(key);
    asked.project ||= asked.plan.name;
  }
  for (const [name, value] of Object.entries(asked)) if (!value) delete asked[name];
  return asked;
}

async function start() {
  if ($('start').disabled) return;
  clearErrors();
  $('start').disabled = true;
  attempt ||= crypto.getRandomValues(new Uint32Array(4)).join('-');
  const key = $('key').value;
  try {
    const asked = await request(key);
    if (asked) {
      const { id } = await call('api/builds', { method: 'POST', body: asked, key, headers: { 'Idempotency-Key': attempt } });
      location.assign(`${home}builds/${encodeURIComponent(id)}`);
      return;
    }
  } catch (error) {
    if (!file.failed) fail(error);
  }
  suit();
}

function countPrompt() {
  const size = new TextEncoder().encode($('prompt').value).length;
  setText($('prompt-size'), `${size.toLocaleString('en')} of ${maxPrompt.toLocaleString('en')} bytes`);
  $('prompt-size').classList.toggle('over', size > maxPrompt);
}

async function choose(chosen) {
  if (!chosen) return;
  chooseWay('file');
  const { name, text, error } = await planOf(chosen);
  if (error) file.refuse(name, error);
  else await take(name, text);
  suit();
}

function offerDrop() {
  const over = (is) => (event) => {
    event.preventDefault();
    form.classList.toggle('over-it', is);
  };
  form.addEventListener('dragover', over(true));
  form.addEventListener('dragleave', over(false));
  form.addEventListener('drop', (event) => {
    over(false)(event);
    choose(event.dataTransfer.files[0]);
  });
}

const option = (value, text) => new Option(text, value);

function offer() {
  $('planner').replaceChildren(...server.planners.map(({ name, model }) => option(name, model ? `${name} · ${model}` : name)));
  $('planner').value = server.defaultPlanner || (server.planners[0]?.name ?? '');
  $('deploy').replaceChildren(option('', ''), ...server.targets.map((name) => option(name, targets[name] ?? name)));
  $('example').replaceChildren(...examples.map((name) => option(name, name)));
  $('no-cache-field').hidden = !server.cache;
  $('no-planner').hidden = server.planners.length > 0;
  $('prompt-field').hidden = !server.planners.length;
  setText($('sandbox'), sandboxes[server.sandbox] ?? '');
  form.hidden = false;
  countPrompt();
  chooseWay(server.planners.length ? 'prompt' : 'file');
  if (server.planners.length) $('prompt').focus();
}

async function begin() {
  try {
    server = await call('api/server');
  } catch (error) {
    $('notice').replaceChildren(`The server cannot be asked what it can do: ${error.message}. `, Object.assign(el('a', '', 'Try again'), { href: location.href }));
    $('notice').hidden = false;
    return;
  }
  offer();
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  start();
});
form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
form.addEventListener('input', () => (attempt = ''));
for (const radio of form.elements.way) radio.addEventListener('change', () => chooseWay(radio.value));
$('prompt').addEventListener('input', countPrompt);
$('file').addEventListener('change', () => choose($('file').files[0]));
$('example').addEventListener('change', showExample);
offerDrop();
begin();
