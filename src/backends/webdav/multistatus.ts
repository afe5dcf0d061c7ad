import { TextDecoder } from 'node:util';
import { MirageError } from '../../errors/mirage-error.js';
import { type Element, parseXml, scanXml } from './xml.js';

/** One resource of a 207 answer (RFC 4918, 13): its reference, the properties it has, and the first status that is none of success. */
export interface Resource {
  readonly href: string;
  /** Local names → text, or what is inside. */
  readonly properties: Readonly<Record<string, Element>>;
  /** Status of the whole resource or of properties that were not changed; 404 of a property that is not there does not count. */
  readonly failure: number | undefined;
}

/** Characters of one resource, and of a whole answer: an answer without end does not fill the memory. */
const LONGEST_RESOURCE = 2 ** 20;
const LONGEST_ANSWER = 2 ** 28;

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
  const reader = new ResourceReader();
  scanXml(xml, reader);
  return reader.resource();
}

/** One `response` element: depth 1; its `href`, `status` and `propstat`: 2; `prop` and its `status`: 3; properties: 4; what is in them: 5. */
class ResourceReader {
  #href = '';
  #failure: number | undefined;
  #properties: Record<string, Element> = Object.create(null);
  /** Of the propstat that is being read. */
  #found: [name: string, value: Element][] = [];
  #code: number | undefined;
  #inProp = false;
  #inside: Record<string, Element[]> | undefined;

  open(name: string, depth: number): void {
    if (depth === 2) {
      this.#found = [];
      this.#code = 500;
    } else if (depth === 3) this.#inProp = name === 'prop';
    else if (depth === 4) this.#inside = undefined;
  }

  close(name: string, depth: number, text: string): void {
    if (depth === 4 && this.#inProp) this.#found.push([name, this.#inside ?? text]);
    else if (depth === 5) {
      this.#inside ??= Object.create(null) as Record<string, Element[]>;
      this.#inside[name] = [text];
    } else if (depth === 3 && name === 'status') this.#code = failureOf(text);
    else if (depth === 2) this.#closePart(name, text);
  }

  resource(): Resource {
    if (this.#href === '') throw unreadable('it has a resource without a reference');
    return { href: this.#href, properties: this.#properties, failure: this.#failure };
  }

  #closePart(name: string, text: string): void {
    if (name === 'href') this.#href ||= text;
    else if (name === 'status') this.#failure = failureOf(text);
    else if (name === 'propstat' && this.#code === undefined) {
      for (const [property, value] of this.#found) this.#properties[property] = value;
    } else if (name === 'propstat' && this.#code !== 404) this.#failure ??= this.#code;
  }
}

/** Parses a small document that is no multistatus, such as the answer to LOCK. */
export function parseDocument(text: string): Element {
  if (/<!(DOCTYPE|ENTITY)/i.test(text)) throw unreadable('it declares a document type');
  return parseXml(text);
}

/** `HTTP/1.1 404 Not Found` → 404; undefined for a success. */
function failureOf(status: string): number | undefined {
  const code = Number(/^\s*HTTP\/\S+\s+(\d{3})/.exec(status)?.[1] ?? 500);
  return code >= 200 && code < 300 ? undefined : code;
}

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
