// DOM helpers of all pages. Events' texts are untrusted: they are inserted as text nodes only.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** Makes an element; children are nodes or texts. */
export function el(tag, className = '', ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Sets the text if it differs: setting the same text would make a screen reader repeat it. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** Shows a moment in a <time>: `text` for people, the exact time for machines and on hover. */
export function setTime(node, stamp, text) {
  setText(node, text);
  if (node.dateTime === stamp) return;
  node.dateTime = stamp;
  node.title = new Date(stamp).toLocaleString();
}
