// A build's log in pages of equal size. The pages used last are in memory; the others are read again. Ids have no gaps,
// so an event's id determines its page. No DOM here.

const size = 1000; // events of a page: as many as one answer has
const most = 20; // pages in memory

export class Pages {
  /** The first event that is kept. */
  first = 1;
  /** The last event's id. */
  length = 0;
  #pages = new Map(); // number -> its events; what was used last is last
  #reading = new Map(); // number -> promise
  #read;

  /** @param {(after: number, limit: number) => Promise<object[]>} read events of the log */
  constructor(read) {
    this.#read = read;
  }

  clear() {
    this.first = 1;
    this.length = 0;
    this.#pages = new Map();
    this.#reading = new Map(); // reads under way belong to the old log
  }

  /** Adds the next event of a running build. */
  add(event) {
    const number = pageOf(event.id);
    if (!this.length) this.first = event.id;
    if (this.#pages.has(number)) this.#pages.get(number).push(event);
    else this.#keep(number, [event]);
    this.length = event.id;
  }

  /** The event with this id; undefined if load() must be called first. */
  get(id) {
    const number = pageOf(id);
    const page = this.#pages.get(number);
    if (!page) return undefined;
    this.#pages.delete(number);
    this.#pages.set(number, page);
    return page[id - this.#begin(number)];
  }

  /** Loads the event into memory. */
  async load(id) {
    const number = pageOf(id);
    if (id < this.first || id > this.length || this.#pages.has(number)) return;
    if (!this.#reading.has(number)) this.#reading.set(number, this.#readPage(number));
    await this.#reading.get(number);
  }

  async #readPage(number) {
    const reading = this.#reading;
    const events = [];
    const first = this.#begin(number) - 1;
    const wanted = Math.min((number + 1) * size, this.length) - first;
    try {
      while (events.length < wanted) { // an answer may be shorter than asked for, as its bytes are bounded
        const more = await this.#read(first + events.length, wanted - events.length);
        if (!more.length) throw new Error(`event ${first + events.length + 1} is no longer kept`);
        events.push(...more);
      }
      if (reading === this.#reading) this.#keep(number, events);
    } finally {
      reading.delete(number);
    }
  }

  /** The id of a page's first event: the first page may be cut. */
  #begin(number) {
    return Math.max(number * size + 1, this.first);
  }

  #keep(number, events) {
    this.#pages.set(number, events);
    if (this.#pages.size > most) this.#pages.delete(this.#pages.keys().next().value);
  }
}

const pageOf = (id) => Math.floor((id - 1) / size);
