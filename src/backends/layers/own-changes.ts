import type { Clock } from '../../clock/clock.js';
import { MirageError } from '../../errors/mirage-error.js';
import {
  type Backend,
  type Context,
  hasCopy,
  hasDirectories,
  hasRemoveMany,
  hasRename,
  hasSetAttributes,
  type ListPage,
  type ObjectInfo,
  type Validator,
} from '../contract.js';
import { hasMultipart, type Multipart } from '../multipart.js';
import { plain } from './intercept.js';
import { interceptMultipart } from './multipart.js';

/** How late a listing may be, milliseconds: for so long a change of ours is held against it. */
const REMEMBERED = 60_000;
/** Changes that are remembered, the newest. */
const MOST = 50_000;
/** Listings of several pages that are under way, the newest. */
const LISTINGS = 100;

type Kind = ObjectInfo['kind'];

/** What we made of one name. */
interface Fact {
  readonly id: string;
  readonly directory: string;
  readonly key: string;
  readonly kind: Kind;
  /** Monotonic, milliseconds. */
  readonly at: number;
  /** `unknown`: the change failed, and may have happened. */
  readonly state: 'there' | 'gone' | 'unknown';
  /** undefined: whichever. */
  readonly validator: Validator | undefined;
}

/** A key may be that of a file and of a directory at once. */
const idOf = (kind: Kind, key: string): string => `${kind} ${key}`;
const parentOf = (key: string): string => key.slice(0, Math.max(key.lastIndexOf('/'), 0));

/** What this host changed a short while ago, the oldest first. */
class Facts {
  readonly #clock: Clock;
  readonly #all = new Map<string, Fact>();
  readonly #byDirectory = new Map<string, Map<string, Fact>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(kind: Kind, key: string, state: Fact['state'], validator?: Validator): void {
    const directory = parentOf(key);
    const id = idOf(kind, key);
    this.#forget(id);
    const fact = { id, directory, key, kind, at: this.#clock.monotonic(), state, validator };
    this.#all.set(id, fact);
    const beside = this.#byDirectory.get(directory);
    if (beside === undefined) this.#byDirectory.set(directory, new Map([[id, fact]]));
    else beside.set(id, fact);
    this.#expire();
  }

  /** What is made somewhere is in directories, whether they have objects of their own or not. */
  noteAbove(key: string): void {
    for (let above = parentOf(key); above !== ''; above = parentOf(above)) {
      const known = this.#all.get(idOf('directory', above));
      this.note('directory', above, 'there', known?.state === 'there' ? known.validator : undefined);
    }
  }

  of(kind: Kind, key: string): Fact | undefined {
    this.#expire();
    return this.#all.get(idOf(kind, key));
  }

  in(directory: string): ReadonlyMap<string, Fact> | undefined {
    this.#expire();
    return this.#byDirectory.get(directory);
  }

  #expire(): void {
    const oldest = this.#clock.monotonic() - REMEMBERED;
    for (const { id, at } of this.#all.values()) {
      if (at > oldest && this.#all.size <= MOST) return;
      this.#forget(id);
    }
  }

  #forget(id: string): void {
    const fact = this.#all.get(id);
    if (fact === undefined) return;
    this.#all.delete(id);
    const beside = this.#byDirectory.get(fact.directory);
    beside?.delete(id);
    if (beside?.size === 0) this.#byDirectory.delete(fact.directory);
  }
}

/**
 * A store may list what it had a moment ago (replicated ones do), and says of a single object what it has. So what this host changed within the last
 * minute is held against every listing, and a name on which the two differ is asked for by itself. Where nothing differs nothing is asked.
 */
export function ownChanges(inner: Backend, clock: Clock): Backend {
  const facts = new Facts(clock);
  /** Made by us and not listed so far, by prefix and cursor of the next page. */
  const unlisted = new Map<string, ReadonlySet<string>>();

  /** Notes what became of a change of one name. */
  async function changed<T>(
    kind: Kind,
    key: string,
    change: Promise<T>,
    state: 'there' | 'gone',
  ): Promise<T> {
    try {
      const info = await change;
      const validator = state === 'there' ? (info as ObjectInfo | undefined)?.validator : undefined;
      facts.note(kind, key, state, validator);
      if (state === 'there') facts.noteAbove(key);
      return info;
    } catch (error) {
      if (MirageError.is(error) && error.outcomeUnknown) facts.note(kind, key, 'unknown');
      throw error;
    }
  }

  async function corrected(
    page: ListPage,
    prefix: string,
    asked: string,
    context: Context,
  ): Promise<ListPage> {
    const known = facts.in(prefix);
    const next = page.cursor === undefined ? undefined : `${prefix}\0${page.cursor}`;
    const missing = new Set(
      asked.endsWith('\0')
        ? [...(known?.values() ?? [])].filter(({ state }) => state !== 'gone').map(({ id }) => id)
        : unlisted.get(asked),
    );
    const doubtful = new Map<string, Fact>();
    for (const { kind, key, validator } of page.entries) {
      const id = idOf(kind, key);
      missing.delete(id);
      const fact = known?.get(id);
      if (fact !== undefined && differs(fact, validator)) doubtful.set(id, fact);
    }
    if (next !== undefined) remember(unlisted, next, missing);
    else
      for (const id of missing) {
        const fact = known?.get(id);
        if (fact !== undefined) doubtful.set(id, fact);
      }
    const plainPage = facts.of('directory', prefix) === undefined ? page : withoutMarker(page);
    if (doubtful.size === 0) return plainPage;
    const found = new Map<string, ObjectInfo | undefined>();
    await Promise.all(
      [...doubtful.values()].map(async ({ id, key }) => void found.set(id, await inner.stat(key, context))),
    );
    const entries = page.entries.flatMap((entry) => {
      const id = idOf(entry.kind, entry.key);
      if (!found.has(id)) return [entry];
      const now = found.get(id);
      if (now === undefined) return [];
      if (now.kind === entry.kind) return [now];
      // The other one of its name: nothing is heard of this one but what we made of it.
      return doubtful.get(id)?.state === 'gone' ? [] : [entry];
    });
    const listed = new Set(page.entries.map(({ kind, key }) => idOf(kind, key)));
    for (const [id, now] of found) {
      if (!listed.has(id) && now !== undefined && idOf(now.kind, now.key) === id) entries.push(now);
    }
    return { ...plainPage, entries };
  }

  const wrapped: Backend = {
    ...plain(inner),
    async list(prefix, cursor, context) {
      const page = await inner.list(prefix, cursor, context);
      const asked = `${prefix}\0${cursor ?? ''}`;
      const nothing = facts.in(prefix) === undefined && facts.of('directory', prefix) === undefined;
      return nothing && !unlisted.has(asked) ? page : corrected(page, prefix, asked, context);
    },
    write: (key, source, options, context) =>
      changed('file', key, inner.write(key, source, options, context), 'there'),
    remove: (key, precondition, context) =>
      changed('file', key, inner.remove(key, precondition, context), 'gone'),
  };
  return {
    ...wrapped,
    ...(hasRemoveMany(inner) && {
      async removeMany(...[removals, context]: Parameters<typeof inner.removeMany>) {
        try {
          const outcomes = await inner.removeMany(removals, context);
          removals.forEach(({ key }, index) => {
            const error = outcomes[index];
            if (error === undefined) facts.note('file', key, 'gone');
            else if (error.outcomeUnknown) facts.note('file', key, 'unknown');
          });
          return outcomes;
        } catch (error) {
          for (const { key } of removals) facts.note('file', key, 'unknown');
          throw error;
        }
      },
    }),
    ...(hasMultipart(inner) && {
      multipart: {
        ...interceptMultipart(inner.multipart, (_operation, _key, context, proceed) => proceed(context)),
        complete: (...[upload, parts, options, context]: Parameters<Multipart['complete']>) =>
          changed('file', upload.key, inner.multipart.complete(upload, parts, options, context), 'there'),
      },
    }),
    ...(hasDirectories(inner) && {
      createDirectory: (...[key, attributes, context]: Parameters<typeof inner.createDirectory>) =>
        changed('directory', key, inner.createDirectory(key, attributes, context), 'there'),
      removeDirectory: (key: string, context: Context) =>
        changed('directory', key, inner.removeDirectory(key, context), 'gone'),
    }),
    ...(hasCopy(inner) && {
      copy: (...[from, to, options, context]: Parameters<typeof inner.copy>) =>
        changed('file', to, inner.copy(from, to, options, context), 'there'),
    }),
    ...(hasSetAttributes(inner) && {
      setAttributes: (...[key, kind, ...rest]: Parameters<typeof inner.setAttributes>) =>
        changed(kind, key, inner.setAttributes(key, kind, ...rest), 'there'),
    }),
    ...(hasRename(inner) && {
      async rename(from: string, to: string, context: Context) {
        try {
          await inner.rename(from, to, context);
        } finally {
          // Whatever was there, and whether it happened.
          for (const key of [from, to])
            for (const kind of ['file', 'directory'] as const) facts.note(kind, key, 'unknown');
        }
      },
    }),
  };
}

const differs = ({ state, validator }: Fact, listed: Validator | undefined): boolean =>
  state !== 'there' || (validator !== undefined && listed !== undefined && validator !== listed);

/** Whether a directory has an object of its own is not told. */
function withoutMarker({ entries, cursor }: ListPage): ListPage {
  return { entries, cursor };
}

function remember(map: Map<string, ReadonlySet<string>>, name: string, ids: ReadonlySet<string>): void {
  map.delete(name);
  if (ids.size > 0) map.set(name, ids);
  if (map.size > LISTINGS) map.delete(map.keys().next().value as string);
}
