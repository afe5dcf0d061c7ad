import type { ListPage, ObjectInfo } from '../contract.js';

/** Entries of a page: what one is taken in for while the next one arrives. */
const PAGE = 256;
/** Listings whose next page nobody asks for end after so long, milliseconds. */
const PATIENCE = 30_000;

/** Begins to list a folder. Ends with what `signal` is aborted with. */
type Entries = (key: string, signal: AbortSignal) => AsyncGenerator<ObjectInfo>;

/** An answer that is being read. */
interface Arriving {
  readonly key: string;
  readonly entries: AsyncGenerator<ObjectInfo>;
  readonly abort: AbortController;
}

interface Page {
  readonly entries: readonly ObjectInfo[];
  /** It is the last one. */
  readonly ended: boolean;
}

interface Waiting extends Arriving {
  /** Read already, or being read. */
  readonly page: Promise<Page>;
  readonly expiry: NodeJS.Timeout;
}

/**
 * The one answer of a server to the question for a folder, in pages as it arrives: whoever reads them need not wait for the last entry of a long one,
 * nor hold all of it. A cursor stands for an answer under way, and is good once; where that has broken off, the folder is listed anew
 * and comes whole, so that a page may be asked for again.
 */
export class ListingPages {
  readonly #list: Entries;
  readonly #waiting = new Map<string, Waiting>();
  #last = 0;

  constructor(list: Entries) {
    this.#list = list;
  }

  async page(key: string, cursor: string | undefined, signal: AbortSignal): Promise<ListPage> {
    signal.throwIfAborted();
    const waiting = cursor === undefined ? undefined : this.#take(key, cursor);
    if (waiting !== undefined) return this.#answer(waiting, waiting.page, signal);
    const abort = new AbortController();
    const arriving = { key, entries: this.#list(key, abort.signal), abort };
    const size = cursor === undefined ? PAGE : Number.POSITIVE_INFINITY;
    return this.#answer(arriving, collect(arriving, size), signal);
  }

  close(): void {
    for (const [cursor, { key, abort }] of this.#waiting) {
      this.#take(key, cursor);
      abort.abort();
    }
  }

  async #answer(
    { key, entries, abort }: Arriving,
    page: Promise<Page>,
    signal: AbortSignal,
  ): Promise<ListPage> {
    const aborted = (): void => abort.abort(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    try {
      const arrived = await page;
      if (arrived.ended) return { entries: arrived.entries, cursor: undefined };
      return { entries: arrived.entries, cursor: this.#goOn({ key, entries, abort }), coming: true };
    } catch (error) {
      abort.abort();
      throw error;
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  /** Reads the next page before it is asked for. Returns its cursor. */
  #goOn(arriving: Arriving): string {
    const cursor = String(++this.#last);
    const page = collect(arriving, PAGE);
    page.catch(() => undefined);
    const expiry = setTimeout(() => {
      this.#waiting.delete(cursor);
      arriving.abort.abort();
    }, PATIENCE).unref();
    this.#waiting.set(cursor, { ...arriving, page, expiry });
    return cursor;
  }

  #take(key: string, cursor: string): Waiting | undefined {
    const waiting = this.#waiting.get(cursor);
    if (waiting?.key !== key) return undefined;
    this.#waiting.delete(cursor);
    clearTimeout(waiting.expiry);
    return waiting;
  }
}

/** The next entries, so many unless the folder ends before. */
async function collect({ entries }: Arriving, size: number): Promise<Page> {
  const page: ObjectInfo[] = [];
  while (page.length < size) {
    const { value, done } = await entries.next();
    if (done === true) return { entries: page, ended: true };
    page.push(value);
  }
  return { entries: page, ended: false };
}
