import { $, setText } from './dom.js';
import { safeLink } from './format.js';

const widths = ['phone', 'tablet', 'desktop'];

/**
 * The site that the build has deployed, in a frame. It is other people's HTML: the frame has an origin of its own and is
 * sandboxed, and the page's policy allows only previews of this build. If a browser blocks the frame, the link is left.
 */
export class Preview {
  #url = '';
  #frame = null;
  #chosen = false; // the user has opened or closed it

  constructor() {
    const details = $('site');
    details.addEventListener('toggle', () => details.open && this.#load());
    details.querySelector('summary').addEventListener('click', () => (this.#chosen = true));
    for (const width of widths) {
      $(`width-${width}`).addEventListener('click', () => this.#resize(width));
    }
    $('reload').addEventListener('click', () => {
      this.#remove();
      this.#load();
    });
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => {
      if (effectiveDirective !== 'frame-src') return;
      this.#remove();
      $('site').hidden = true;
    });
    this.#resize('desktop');
  }

  /**
   * @param {string} url untrusted; empty: there is no preview
   * @param {string} target of the deploy: a site on this server is shown at once, others may refuse to be in a frame
   */
  show(url, target) {
    const link = safeLink(url);
    $('preview').hidden = !link;
    if (!link) return; // a replay leaves the frame
    $('preview').href = link;
    if (link !== this.#url) {
      this.#remove();
      this.#url = link;
      $('site').hidden = false;
      setText($('site-url'), link);
    }
    if (!this.#chosen && target === 'local') $('site').open = true;
    if ($('site').open) this.#load();
  }

  /** There is no such build. */
  clear() {
    this.show('', '');
    this.#remove();
    this.#url = '';
    $('site').hidden = true;
  }

  #load() {
    if (this.#frame || !this.#url) return;
    const frame = document.createElement('iframe');
    // A site of the dashboard's own origin must not become able to act as the dashboard.
    const foreign = new URL(this.#url).origin !== location.origin;
    frame.setAttribute('sandbox', `allow-scripts allow-forms${foreign ? ' allow-same-origin' : ''}`);
    frame.referrerPolicy = 'no-referrer';
    frame.title = 'Preview of the site';
    frame.src = this.#url;
    this.#frame = frame;
    $('stage').replaceChildren(frame);
  }

  #remove() {
    this.#frame?.remove();
    this.#frame = null;
  }

  #resize(width) {
    $('stage').dataset.width = width;
    for (const each of widths) $(`width-${each}`).setAttribute('aria-pressed', String(each === width));
  }
}
