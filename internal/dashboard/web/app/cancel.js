import { $, setText } from './dom.js';
import { buildPath, call } from './api.js';

/** The cancel button and its question. An API key stays on the page and is not stored. */
export function offerCancel(buildId) {
  const dialog = $('ask');
  const yes = $('yes');
  $('cancel').addEventListener('click', () => {
    setText($('ask-error'), '');
    dialog.showModal();
  });
  $('key').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault(); // Enter would press the form's first button, which keeps the build running
    yes.click();
  });
  yes.addEventListener('click', async () => {
    yes.disabled = true;
    try {
      await call(`${buildPath(buildId)}/cancel`, { method: 'POST', key: $('key').value });
      dialog.close();
    } catch (error) {
      if (error.status === 401) $('key-label').hidden = false;
      setText($('ask-error'), reason(error));
      if (error.status === 401) $('key').focus();
    }
    yes.disabled = false;
  });
}

function reason({ status, message }) {
  if (status !== 401) return `The build could not be cancelled: ${message}.`;
  return $('key').value ? 'This is not a key of this server.' : 'This server asks for an API key to cancel builds.';
}
