import { TextDecoder } from 'node:util';
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';

/** One resource of a 207 answer (RFC 4918, 13): its reference, the properties it has, and the first status that is none of success. */
export interface Resource {
  readonly href: string;
  /** Local names → text, or whatever is inside. */
  readonly properties: Readonly<Record<string, unknown>>;
  /** Status of the whole resource or of properties that were not changed; 404 of a property that is not there does not count. */
  readonly failure: number | undefined;
}

/** Characters of one resource, and of a whole answer: an answer without end does not fill the memory. */
const LONGEST_RESOURCE = 2 ** 20;
const LONGEST_ANSWER = 2 ** 28;

const parser = new XMLParser({
  // Prefixes differ from server to server; the properties that are asked for differ in their local names.
  removeNSPrefix: true,
  ignoreAttributes: true,
  parseTagValue: false,
  // The five entities and numbers are decoded below; none that a document declares.
  processEntities: false,
  isArray: (name) => name === 'propstat' || name === 'href' || name === 'activelock',
});

const propstat = z.object({
  prop: z.union([z.record(z.string(), z.unknown()), z.literal('')]).default({}),
  status: z.string(),
});
const response = z.object({
  response: z.object({
    href: z.tuple([z.string()]).rest(z.string()),
    propstat: z.array(propstat).optional(),
    status: z.string().optional(),
  }),
});

/** Reads a multistatus document resource by resource while it arrives. One that ends early is an error, never a short list. */
export async function* resources(body: AsyncIterable<Uint8Array>): AsyncGenerator<Resource> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  let length = 0;
  let close: string | undefined;
  /** Where to look for the next end of a resource. */
  let from = 0;
  const take = function* (): Generator<Resource> {
    if (close === undefined) {
      const [first, prefix] = /<([\w.-]+:)?response[\s>]/.exec(text) ?? [];
      if (/<!(DOCTYPE|ENTITY)/i.test(text)) throw unreadable('it declares a document type');
      if (first === undefined) return;
      if (!/<([\w.-]+:)?multistatus[\s>]/.test(text)) throw unreadable('it is no list of resources');
      close = `</${prefix ?? ''}response>`;
      text = text.slice(text.indexOf(first));
    }
    let start = 0;
    for (;;) {
      const end = text.indexOf(close, from);
      if (end < 0) break;
      from = end + close.length;
      yield resourceOf(text.slice(start, from));
      start = from;
    }
    text = text.slice(start);
    from = Math.max(0, text.length - close.length);
    if (text.length > LONGEST_RESOURCE) throw unreadable('it has a resource without end');
  };
  for await (const chunk of body) {
    length += chunk.length;
    if (length > LONGEST_ANSWER) throw unreadable('it is too long');
    text += decoded(decoder, chunk);
    yield* take();
  }
  text += decoded(decoder);
  yield* take();
  if (!/^(\s|<([\w.-]+:)?responsedescription>[^<]*<\/[^>]*>)*<\/([\w.-]+:)?multistatus>\s*$/.test(text)) {
    // Nothing at all in it is a document, too.
    if (
      close !== undefined ||
      !/<([\w.-]+:)?multistatus[^>]*>\s*(<\/|$)|multistatus[^>]*\/>\s*$/.test(text)
    ) {
      throw unreadable('it ended early', true);
    }
  }
}

function resourceOf(xml: string): Resource {
  let parsed: z.output<typeof response>['response'];
  try {
    parsed = response.parse(parser.parse(xml)).response;
  } catch (cause) {
    throw new MirageError('the server sent a listing that cannot be read', { errno: 'EIO', cause });
  }
  const properties: Record<string, unknown> = {};
  let failure = parsed.status === undefined ? undefined : failureOf(parsed.status);
  for (const { prop, status } of parsed.propstat ?? []) {
    const code = failureOf(status);
    if (code === undefined) Object.assign(properties, prop === '' ? {} : prop);
    else if (code !== 404) failure ??= code;
  }
  return { href: entitiesDecoded(parsed.href[0].trim()), properties, failure };
}

/** The text of a property; undefined where it has none. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? entitiesDecoded(value) : undefined;
}

/** Parses a small document that is no multistatus, such as the answer to LOCK. */
export const parseDocument = (text: string): unknown => {
  if (/<!(DOCTYPE|ENTITY)/i.test(text)) throw unreadable('it declares a document type');
  return parser.parse(text);
};

/** `HTTP/1.1 404 Not Found` → 404; undefined for a success. */
function failureOf(status: string): number | undefined {
  const code = Number(/^\s*HTTP\/\S+\s+(\d{3})/.exec(status)?.[1] ?? 500);
  return code >= 200 && code < 300 ? undefined : code;
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function entitiesDecoded(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w+));/gi, (whole, hex, decimal, name) => {
    if (name !== undefined) return ENTITIES[name as string] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex as string, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

export const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function decoded(decoder: TextDecoder, chunk?: Uint8Array): string {
  try {
    return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
  } catch (cause) {
    throw new MirageError('the server sent a listing that is not UTF-8', { errno: 'EIO', cause });
  }
}

function unreadable(why: string, retryable = false): MirageError {
  return new MirageError(`the server sent a listing that cannot be read: ${why}`, {
    errno: 'EIO',
    retryable,
    hint: 'is `url` of the mount a WebDAV folder?',
  });
}
