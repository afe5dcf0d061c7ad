/** What a stranger's backend answers, checked and completed. */
import { z } from 'zod';
import { type ErrnoName, errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { ListPage, ObjectInfo, StoredAttributes, Timestamp } from '../contract.js';

export const DOCUMENTATION = 'see docs/write-a-backend.md, and try: mirage backend test';

const timestamp = z.object({
  seconds: z.number().int(),
  nanoseconds: z.number().int().min(0).max(999_999_999),
});
const milliseconds = z.union([z.number(), z.date().transform((date) => date.getTime())]);
const time = z.union([timestamp, milliseconds.transform(fromMilliseconds)]);

const attributes = z.object({
  mode: z.number().int().optional(),
  uid: z.number().int().optional(),
  gid: z.number().int().optional(),
  rdev: z.number().int().optional(),
  modified: timestamp.optional(),
  changed: timestamp.optional(),
  accessed: timestamp.optional(),
  xattrs: z.record(z.string(), z.string()).optional(),
  linkGroup: z.string().optional(),
  writer: z.string().optional(),
});

const info = z.object({
  key: z.string().optional(),
  kind: z.enum(['file', 'directory']).default('file'),
  size: z.number().int().nonnegative().optional(),
  modified: time.default({ seconds: 0, nanoseconds: 0 }),
  validator: z.string().optional(),
  version: z.string().optional(),
  attributes: attributes.optional(),
  sequential: z.boolean().optional(),
});
const listed = info.required({ key: true });
const page = z.union([
  z.array(listed).transform((entries) => ({ entries, cursor: undefined })),
  z.object({ entries: z.array(listed), cursor: z.string().optional() }),
]);
const usage = z.object({
  total: z.number().optional(),
  free: z.number().optional(),
  entries: z.number().optional(),
  freeEntries: z.number().optional(),
});

/** `keepsAttributes`: the store has them with every answer about a single object; else it has none, and says so. */
export class Answers {
  readonly #module: string;
  readonly #keepsAttributes: boolean;

  constructor(module: string, keepsAttributes: boolean) {
    this.#module = module;
    this.#keepsAttributes = keepsAttributes;
  }

  info(operation: string, key: string, answer: unknown): ObjectInfo {
    return this.#complete(this.#parse(operation, info, answer), key);
  }

  page(prefix: string, answer: unknown): ListPage {
    const { entries, cursor } = this.#parse('list', page, answer);
    const below = prefix === '' ? '' : `${prefix}/`;
    for (const { key } of entries) {
      if (key.startsWith(below) && key !== prefix && !key.slice(below.length).includes('/')) continue;
      throw this.#wrong('list', `"${key}" is not one name below "${prefix}"`);
    }
    return { entries: entries.map((entry) => this.#complete(entry, entry.key)), cursor };
  }

  usage(answer: unknown): { total?: number; free?: number; entries?: number; freeEntries?: number } {
    const found = this.#parse('usage', usage, answer);
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
  }

  #complete(answer: z.output<typeof info>, key: string): ObjectInfo {
    const { kind, size, modified, validator, version, attributes: kept, sequential } = answer;
    const none = this.#keepsAttributes ? undefined : {};
    return {
      key,
      kind,
      size: kind === 'directory' ? undefined : size,
      modified,
      validator,
      ...(version !== undefined && { version }),
      attributes: kept === undefined ? none : withoutGaps(kept),
      ...(sequential !== undefined && { sequential }),
    };
  }

  #parse<T extends z.ZodType>(operation: string, schema: T, answer: unknown): z.output<T> {
    const result = schema.safeParse(answer);
    if (result.success) return result.data;
    throw this.#wrong(operation, z.prettifyError(result.error).replaceAll(/\s+/g, ' '));
  }

  #wrong(operation: string, what: string): MirageError {
    return new MirageError(`${this.#module}: ${operation} gave a wrong answer: ${what}`, {
      errno: 'EIO',
      hint: DOCUMENTATION,
    });
  }
}

/** Whatever was thrown: an errno as `code` counts, as do `hint`, `retryable` and `outcomeUnknown` beside it. */
export function toMirageError(error: unknown, module: string): unknown {
  if (error instanceof MirageError || !(error instanceof Error) || error.name === 'AbortError') return error;
  const { code, hint, retryable, outcomeUnknown } = error as Error & Partial<Record<string, unknown>>;
  // An error of another copy of this package says it as `errno`.
  const name = [code, (error as { errno?: unknown }).errno].find(isErrno);
  return new MirageError(`${module}: ${error.message}`, {
    errno: name ?? 'EIO',
    retryable: retryable === true,
    outcomeUnknown: outcomeUnknown === true,
    cause: error,
    ...(typeof hint === 'string' && { hint }),
  });
}

const isErrno = (name: unknown): name is ErrnoName => typeof name === 'string' && Object.hasOwn(errno, name);

const withoutGaps = (kept: z.output<typeof attributes>): StoredAttributes =>
  Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined));

function fromMilliseconds(at: number): Timestamp {
  const seconds = Math.floor(at / 1000);
  return { seconds, nanoseconds: Math.floor((at - seconds * 1000) * 1e6) };
}
