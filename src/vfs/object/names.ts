/**
 * Names ↔ keys. A name of the tree is bytes, a component of an object key is Unicode of up to 1,024 bytes, and some keys are
 * no file names. The mapping is one to one, nothing is hidden:
 *
 * | component in the store                           | name in the tree                            |
 * |--------------------------------------------------|---------------------------------------------|
 * | any other valid UTF-8 up to 255 bytes            | the same bytes                              |
 * | empty, `.`, `..`, with a NUL, with `%mirage-`    | `%mirage-key-<its UTF-8 in hex>`            |
 * | more than 255 bytes (after the line above)       | its first bytes, `%mirage-long-<hash>`      |
 * | `%mirage-bytes-<hex>`, the hex no valid UTF-8    | those bytes: a name that is not UTF-8       |
 * | a file `x` beside a directory `x/`               | `x%mirage-file` (the directory keeps `x`)   |
 *
 * A name with `%mirage-` in it is never made here: only what the store holds is shown that way.
 */
import { createHash } from 'node:crypto';
import type { ByteString } from '../operations.js';

const MARK = '%mirage-';
const KEY = `${MARK}key-`;
const BYTES = `${MARK}bytes-`;
const LONG = `${MARK}long-`;
const FILE = `${MARK}file`;
/** Of a name in the tree. */
export const NAME_BYTES = 255;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const bytesOf = (text: string): ByteString => Buffer.from(text, 'utf8').toString('latin1');

function textOf(name: ByteString): string | undefined {
  try {
    return decoder.decode(Buffer.from(name, 'latin1'));
  } catch {
    return undefined;
  }
}

/** The name is one of our spellings: it stands for a key that cannot be shown as it is. */
export const isSpelled = (name: ByteString): boolean => name.includes(MARK);

/** How a component of a key is shown; see the table above. */
export function nameOf(component: string): ByteString {
  if (
    isAscii(component) &&
    component.length <= NAME_BYTES &&
    !isDot(component) &&
    !component.includes(MARK)
  ) {
    return component;
  }
  if (component.startsWith(BYTES)) {
    const raw = Buffer.from(component.slice(BYTES.length), 'hex').toString('latin1');
    if (
      raw.length > 0 &&
      raw.length <= NAME_BYTES &&
      textOf(raw) === undefined &&
      componentOf(raw) === component
    ) {
      return raw;
    }
  }
  const bytes = bytesOf(component);
  const unshowable = isDot(component) || component.includes('\0') || component.includes(MARK);
  const spelled = unshowable ? KEY + Buffer.from(component, 'utf8').toString('hex') : bytes;
  return spelled.length <= NAME_BYTES ? spelled : long(component, spelled);
}

/** How a file is shown whose name a directory has. */
export function nameOfFileBesideDirectory(component: string): ByteString {
  const name = nameOf(component) + FILE;
  return name.length <= NAME_BYTES ? name : long(`${component}${FILE}`, name);
}

/** The component that a name stands for; undefined where only the listing that showed it can tell. */
export function componentOf(name: ByteString): string | undefined {
  if (!name.includes(MARK)) {
    if (isAscii(name)) return name;
    return textOf(name) ?? BYTES + Buffer.from(name, 'latin1').toString('hex');
  }
  if (name.endsWith(FILE)) return componentOf(name.slice(0, -FILE.length));
  if (name.startsWith(KEY)) return Buffer.from(name.slice(KEY.length), 'hex').toString('utf8');
  return undefined;
}

/** Long names that were shown, so that they can be found again: a bounded memory of listings. */
export class LongNames {
  readonly #components = new Map<string, string>();
  readonly #limit: number;

  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  remember(directory: string, name: ByteString, component: string): void {
    if (!name.includes(LONG)) return;
    if (this.#components.size >= this.#limit) {
      for (const oldest of this.#components.keys()) {
        this.#components.delete(oldest);
        break;
      }
    }
    this.#components.set(`${directory}/${name}`, component);
  }

  component(directory: string, name: ByteString): string | undefined {
    return this.#components.get(`${directory}/${name}`);
  }
}

/** ASCII without NUL: the same in bytes and in Unicode. */
function isAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit === 0 || unit > 0x7f) return false;
  }
  return true;
}

const isDot = (component: string): boolean => component === '' || component === '.' || component === '..';

function long(component: string, spelled: ByteString): ByteString {
  const hash = createHash('sha256').update(component, 'utf8').digest('hex').slice(0, 32);
  const end = LONG + hash;
  let room = NAME_BYTES - end.length;
  // Not in the middle of a character, so that the name stays valid UTF-8.
  while (room > 0 && (spelled.charCodeAt(room) & 0xc0) === 0x80) room--;
  return spelled.slice(0, room) + end;
}
