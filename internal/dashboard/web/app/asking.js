import { $, setText } from './dom.js';

let key = ''; // stays on this page and is not stored

/**
 * A button and the question that it asks. The dialog has an input for the API key, which appears if the server asks for it.
 * @param {HTMLButtonElement} button
 * @param {HTMLDialogElement} dialog
 * @param {string} what it could not do, such as `be cancelled`
 * @param {(key: string) => Promise<unknown>} act when the answer is yes
 */
export function offer(button, dialog, what, act) {
  const [yes, label, input, wrong] = ['.yes', '.key', '.key input', '.wrong'].map((selector) => dialog.querySelector(selector));
  button.addEventListener('click', () => {
    setText(wrong, '');
    input.value = key;
    dialog.showModal();
  });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault(); // Enter would press the form's first button, which says no
    yes.click();
  });
  yes.addEventListener('click', async () => {
    yes.disabled = true;
    try {
      await act(input.value);
      key = input.value;
      dialog.close();
    } catch ({ status, message }) {
      if (status === 401) {
        label.hidden = false;
        setText(wrong, input.value ? 'This is not a key of this server.' : `This server asks for an API key.`);
        input.focus();
      } else {
        setText(wrong, `The build could not ${what}: ${message}.`);
      }
    }
    yes.disabled = false;
  });
}

/** Closes the dialog if it is open. */
export function close(id) {
  if ($(id).open) $(id).close();
}
