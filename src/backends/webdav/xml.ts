/**
 * A reader for the small documents of WebDAV: elements by their local names, text with the five entities and character numbers. Attributes,
 * comments and processing instructions are passed over; a document type is refused, and with it every entity that one could
 * declare. A listing of a thousand files takes it a tenth of what a parser for all of XML takes.
 */
import { MirageError } from '../../errors/mirage-error.js';

/** Text of an element without children; else the children by local name, each as often as it comes. */
export type Element = string | { readonly [name: string]: readonly Element[] };

const SLASH = 0x2f;
const EXCLAMATION = 0x21;
const QUESTION = 0x3f;
const CDATA = '![CDATA[';

/** Told of every element, in the order of the document: local names, the root at depth 1, text without the spaces around it. */
export interface XmlEvents {
  open(name: string, depth: number): void;
  close(name: string, depth: number, text: string): void;
}

/** Reads a document, or one element. Throws EIO for what is not well formed. */
export function scanXml(xml: string, events: XmlEvents): void {
  const names: string[] = [];
  const texts: string[] = [];
  let depth = 0;
  let last = 0;
  const open = (name: string): void => {
    names[depth] = name;
    texts[depth] = '';
    depth++;
    events.open(name, depth);
  };
  const close = (): void => {
    depth--;
    events.close(names[depth] as string, depth + 1, (texts[depth] as string).trim());
  };
  for (let start = xml.indexOf('<'); start >= 0; start = xml.indexOf('<', last)) {
    // A line break between two elements is what most of all texts are.
    if (start > last + 1 || (start > last && xml.charCodeAt(last) > 0x20)) {
      if (depth > 0) texts[depth - 1] += text(xml, last, start);
      else if (xml.slice(last, start).trim() !== '') throw malformed();
    }
    const first = xml.charCodeAt(start + 1);
    if (first === SLASH) {
      last = after(xml, '>', start);
      if (depth === 0 || localName(xml, start + 2, last - 1) !== names[depth - 1]) throw malformed();
      close();
    } else if (first === QUESTION) {
      last = after(xml, '?>', start);
    } else if (first === EXCLAMATION) {
      const end = xml.startsWith('!--', start + 1) ? '-->' : xml.startsWith(CDATA, start + 1) ? ']]>' : '';
      if (end === '') throw malformed();
      last = after(xml, end, start + 4);
      if (end === ']]>' && depth > 0) {
        texts[depth - 1] += xml.slice(start + 1 + CDATA.length, last - end.length);
      }
    } else {
      last = endOfTag(xml, start + 1);
      const empty = xml.charCodeAt(last - 2) === SLASH;
      open(localName(xml, start + 1, empty ? last - 2 : last - 1));
      if (empty) close();
    }
  }
  if (depth !== 0 || names.length === 0 || xml.slice(last).trim() !== '') throw malformed();
}

/** The root and everything in it. */
export function parseXml(xml: string): Readonly<Record<string, readonly Element[]>> {
  const levels: (Record<string, Element[]> | undefined)[] = [undefined];
  scanXml(xml, {
    open(_name, depth) {
      levels[depth] = undefined;
    },
    close(name, depth, text) {
      levels[depth - 1] ??= Object.create(null) as Record<string, Element[]>;
      const siblings = levels[depth - 1] as Record<string, Element[]>;
      siblings[name] ??= [];
      siblings[name].push(levels[depth] ?? text);
    },
  });
  return levels[0] ?? {};
}

/** Where what begins at `from` is over: behind the next `end`. */
function after(xml: string, end: string, from: number): number {
  const at = xml.indexOf(end, from);
  if (at < 0) throw malformed();
  return at + end.length;
}

/** Behind the `>` of a tag, which may stand in the value of an attribute, too. */
function endOfTag(xml: string, from: number): number {
  for (let at = from; at < xml.length; at++) {
    const code = xml.charCodeAt(at);
    if (code === 0x3e) return at + 1;
    if (code === 0x3c) break;
    if (code === 0x22) at = after(xml, '"', at + 1) - 1;
    else if (code === 0x27) at = after(xml, "'", at + 1) - 1;
  }
  throw malformed();
}

/** The name that begins a tag, without its prefix. */
function localName(xml: string, from: number, end: number): string {
  let start = from;
  let at = from;
  for (; at < end; at++) {
    const code = xml.charCodeAt(at);
    if (code <= 0x20) break;
    if (code === 0x3a) start = at + 1;
    else if (code === 0x2f || code === 0x21 || code === 0x3f) throw malformed();
  }
  if (at === start) throw malformed();
  return xml.slice(start, at);
}

/** What is below an element, by local name; nothing below a text. */
export const childrenOf = (element: Element | undefined, name: string): readonly Element[] =>
  typeof element === 'object' ? (element[name] ?? []) : [];

export const textOf = (element: Element | undefined): string | undefined =>
  typeof element === 'string' && element !== '' ? element : undefined;

export const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function text(xml: string, start: number, end: number): string {
  const raw = xml.slice(start, end);
  if (!raw.includes('&')) return raw;
  return raw.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w+));/gi, (whole, hex, decimal, name) => {
    if (name !== undefined) return ENTITIES[name as string] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex as string, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

const malformed = (): MirageError =>
  new MirageError('the server sent XML that cannot be read', { errno: 'EIO' });
