/** The names of one directory, in pieces, also when the connection breaks in between. */
import { MirageError } from '../../errors/mirage-error.js';
import type { ServerAttributes, ServerEntry } from '../file-server.js';
import type { WireAttributes } from './attributes.js';
import { explained } from './explain.js';
import { type Requests, shown } from './requests.js';

/** READDIR requests under way: the first answers of a large directory tell that there is more. */
const FIRST_LISTINGS = 2;
const MOST_LISTINGS = 16;
/** OpenSSH answers with a hundred names as long as it has as many: fewer are the last ones. */
const FULL_PAGE = 64;
/** Names that a listing remembers, so as not to give them again if it has to begin again. */
const REMEMBERED_NAMES = 100_000;

export class Listing {
  /** Names that were given on: a listing that is begun again goes past them. */
  readonly #given = new Set<string>();

  /** `place`: the server's path. The next piece waits for the promise of `onPage`. */
  constructor(
    private readonly place: string,
    private readonly attributes: (wire: WireAttributes, longname: string) => ServerAttributes,
    private readonly onPage: (entries: readonly ServerEntry[]) => void | Promise<void>,
  ) {}

  /** Lists over one connection; may be called again after that one was lost. */
  async run(ask: Requests): Promise<void> {
    const { place } = this;
    const given = this.#given;
    if (given.size >= REMEMBERED_NAMES) {
      throw new MirageError(`list ${shown(place)}: the connection was lost in a large directory`, {
        errno: 'EHOSTDOWN',
        retryable: true,
        hint: 'list it again',
      });
    }
    const handle = await explained(ask, { operation: 'list', path: place }, ask.opendir(place));
    const running: ReturnType<Requests['readdir']>[] = [];
    const begin = (): void => {
      const page = ask.readdir(handle, `list ${shown(place)}`);
      page.catch(() => undefined);
      running.push(page);
    };
    try {
      let wanted = FIRST_LISTINGS;
      while (running.length < wanted) begin();
      for (;;) {
        const page = await running.shift()!;
        if (page.length === 0) return;
        wanted = page.length < FULL_PAGE ? 1 : Math.min(MOST_LISTINGS, wanted * 2);
        while (running.length < wanted) begin();
        const entries: ServerEntry[] = [];
        for (const { name, longname, attributes } of page) {
          if (!isName(name)) continue;
          // Only a listing that was begun again can meet a name for the second time.
          if (given.has(name)) continue;
          entries.push({ ...this.attributes(attributes, longname), name });
        }
        await this.onPage(entries);
        if (given.size < REMEMBERED_NAMES) for (const { name } of entries) given.add(name);
      }
    } finally {
      void ask.close(handle).catch(() => undefined);
    }
  }
}

/** A name that the host's kernel would not let in is no name: it could lead out of the directory. */
const isName = (name: string): boolean =>
  name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0');
