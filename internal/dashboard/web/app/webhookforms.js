import { $, el, setText } from './dom.js';

/**
 * Opens a dialog and runs its action when its button is pressed. If that fails, it shows the error and stays open.
 * @param {HTMLDialogElement} dialog
 * @param {() => Promise<unknown>} act
 * @returns {Promise<void>} when it is closed
 */
function open(dialog, act) {
  const form = dialog.querySelector('form');
  const yes = dialog.querySelector('.yes');
  const error = dialog.querySelector('.error');
  setText(error, '');
  yes.onclick = async () => {
    if (!form.reportValidity()) return;
    yes.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (thrown) {
      setText(error, `It failed: ${thrown.message}.`);
    }
    yes.disabled = false;
  };
  form.onkeydown = (event) => {
    if (event.key !== 'Enter' || !event.target.matches('input')) return;
    event.preventDefault(); // Enter would press the form's first button, which leaves it
    yes.click();
  };
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(), { once: true }));
}

/** A question, with optional fields. */
export function ask({ title, text, yes, danger = false, fields = [], act }) {
  const dialog = $('ask');
  setText($('ask-title'), title);
  setText($('ask-text'), text);
  const inputs = fields.map(({ label, ...attributes }) => [label, Object.assign(el('input'), attributes)]);
  $('ask-fields').replaceChildren(...inputs.map(([label, input]) => el('label', '', el('span', '', label), input)));
  const button = dialog.querySelector('.yes');
  button.className = `yes ${danger ? 'danger' : 'primary'}`;
  setText(button, yes);
  return open(dialog, () => act(Object.fromEntries(inputs.map(([, input]) => [input.name, input.value]))));
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const names = (text) => text.split(',').map((name) => name.trim()).filter(Boolean);

/**
 * The form of an endpoint.
 * @param {object|null} endpoint the one to change; null: a new one
 * @param {(change: object) => Promise<unknown>} save
 */
export function editEndpoint(endpoint, save) {
  const dialog = $('edit');
  const form = dialog.querySelector('form');
  form.reset();
  setText($('edit-title'), endpoint ? 'Edit endpoint' : 'Add endpoint');
  setText(dialog.querySelector('.yes'), endpoint ? 'Save' : 'Add endpoint');
  if (endpoint) {
    for (const name of ['url', 'description', 'ordering', 'payload', 'rateLimit']) form.elements[name].value = endpoint[name];
    for (const name of ['types', 'builds', 'projects']) form.elements[name].value = endpoint[name].join(', ');
    form.elements.timeout.value = endpoint.timeoutMs / 1000;
  }
  return open(dialog, () => {
    const { url, description, types, builds, projects, ordering, payload, rateLimit, timeout } = form.elements;
    const change = {
      url: url.value.trim(), description: description.value.trim(), types: words(types.value), builds: words(builds.value), projects: names(projects.value),
      ordering: ordering.value, payload: payload.value, rateLimit: Number(rateLimit.value), timeoutMs: Math.round(Number(timeout.value) * 1000),
    };
    if (endpoint && change.url === endpoint.url) delete change.url; // a new address closes the breaker
    return save(change);
  });
}

/** Shows a secret, once. */
export function showSecret(secret) {
  $('secret-text').value = secret;
  setText($('copy'), 'Copy');
  $('secret').showModal();
  $('secret-text').select();
}

$('copy').addEventListener('click', async () => {
  $('secret-text').select();
  try {
    await navigator.clipboard.writeText($('secret-text').value);
    setText($('copy'), 'Copied');
  } catch {
    setText($('copy'), 'Press Ctrl+C'); // it is selected
  }
});
$('secret').addEventListener('cancel', (event) => event.preventDefault()); // Escape would lose the secret
$('secret').addEventListener('close', () => ($('secret-text').value = ''));
