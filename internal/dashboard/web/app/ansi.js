// Output of commands as safe text: colours and weights become classes, every other control sequence is left out.

// CSI, OSC (titles, links), other escapes, and control characters except tab.
const controls = /\x1b\[([0-9;:?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f]/g;

const plain = () => ({ b: false, d: false, i: false, u: false, colour: '' });

function apply(style, codes) {
  const list = codes.split(/[;:]/).map(Number);
  for (let k = 0; k < list.length; k++) {
    const c = list[k];
    if (c === 0) Object.assign(style, plain());
    else if (c === 1) style.b = true;
    else if (c === 2) style.d = true;
    else if (c === 3) style.i = true;
    else if (c === 4) style.u = true;
    else if (c === 22) style.b = style.d = false;
    else if (c === 23) style.i = false;
    else if (c === 24) style.u = false;
    else if (c === 39) style.colour = '';
    else if ((c >= 30 && c <= 37) || (c >= 90 && c <= 97)) style.colour = `c${c % 10}`;
    else if (c === 38 || c === 48) k += list[k + 1] === 5 ? 2 : 4; // 256 and 16 million colours: ignored
  }
}

const classOf = ({ b, d, i, u, colour }) => [b && 'b', d && 'd', i && 'i', u && 'u', colour].filter(Boolean).join(' ');

/** Returns the line as nodes. If a carriage return overwrote it, only the last text is shown. */
export function nodesOf(line) {
  const text = line.replace(/\r+$/, '');
  const last = text.slice(text.lastIndexOf('\r') + 1);
  if (!/[\x00-\x08\x0b-\x1f\x7f]/.test(last)) return [last];
  const nodes = [];
  const style = plain();
  let at = 0;
  const add = (part) => {
    if (!part) return;
    const name = classOf(style);
    if (!name) {
      nodes.push(part);
      return;
    }
    const span = document.createElement('span');
    span.className = name;
    span.textContent = part;
    nodes.push(span);
  };
  for (const found of last.matchAll(controls)) {
    add(last.slice(at, found.index));
    at = found.index + found[0].length;
    if (found[2] === 'm') apply(style, found[1] || '0');
  }
  add(last.slice(at));
  return nodes;
}
