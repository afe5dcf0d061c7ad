/**
 * A reader for the small documents of WebDAV: elements by their local names, text with the five entities and character numbers. Attributes,
 * comments and processing instructions are passed over; a document type is refused, and with it every entity that one could
 * declare. A listing of a thousand files takes it a tenth of what a parser for all of XML takes.
 */
import { MirageError } from '../../errors/mirage-error.js';

/** Text of an element without children; else the children by local name, each as often as it comes. */
export type Element = string | { readonly [name: string]: readonly Element[] };

const TOKEN =
  /<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!\[CDATA\[([\s\S]*?)\]\]>|<(\/?)([^\s<>/!?]+)(?:"[^"]*"|'[^']*'|[^<>"'])*>/g;

interface Open {
  readonly name: string;
  children: Record<string, Element[]> | undefined;
  text: string;
}

/** The root and everything in it. Throws EIO for what is not well formed. */
export function parseXml(xml: string): Readonly<Record<string, readonly Element[]>> {
  const document: Open = { name: '', children: undefined, text: '' };
  const stack: Open[] = [document];
  let top = document;
  let last = 0;
  TOKEN.lastIndex = 0;
  for (let token = TOKEN.exec(xml); token !== null; token = TOKEN.exec(xml)) {
    if (token.index > last) top.text += text(xml, last, token.index);
    last = TOKEN.lastIndex;
    const [whole, data, slash, qualified] = token;
    if (data !== undefined) top.text += data;
    if (qualified === undefined) continue;
    const name = qualified.slice(qualified.indexOf(':') + 1);
    if (slash === '') {
      top = { name, children: undefined, text: '' };
      stack.push(top);
    }
    if (slash === '/' || whole.endsWith('/>')) {
      const closed = stack.pop() as Open;
      const above = stack.at(-1);
      if (above === undefined || closed.name !== name) throw malformed();
      above.children ??= Object.create(null) as Record<string, Element[]>;
      above.children[name] ??= [];
      above.children[name].push(closed.children ?? closed.text.trim());
      top = above;
    }
  }
  if (stack.length !== 1 || document.children === undefined || xml.slice(last).trim() !== '')
    throw malformed();
  return document.children;
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
  if (raw.includes('<')) throw malformed();
  if (!raw.includes('&')) return raw;
  return raw.replace(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w+));/gi, (whole, hex, decimal, name) => {
    if (name !== undefined) return ENTITIES[name as string] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex as string, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

const malformed = (): MirageError =>
  new MirageError('the server sent XML that cannot be read', { errno: 'EIO' });
