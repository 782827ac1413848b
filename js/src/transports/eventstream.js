const maxRest = 4 << 20; // characters; an event's data is 64 KiB at most

/**
 * Parses text/event-stream as buildcast writes it, in any pieces: lines end with \n, and a block has one line of data.
 * @returns {(text: string) => Record<string, string>[]} the fields of each block that is complete; a comment has none
 */
export function eventStream() {
  let rest = '';
  return (text) => {
    const blocks = (rest + text).split('\n\n');
    rest = blocks.pop() ?? '';
    if (rest.length > maxRest) throw new RangeError('too long');
    return blocks.map((block) =>
      Object.fromEntries(Array.from(block.matchAll(/^(\w+): ?(.*)$/gm), ([, name, value]) => [name, value])));
  };
}
