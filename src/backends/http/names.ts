/** Names in URLs ↔ components of keys. A name that is not UTF-8 goes as `%mirage-bytes-<hex>`, which the file system shows as those bytes. */

const BYTES = '%mirage-bytes-';

/** One path segment of a URL. */
export function segmentOf(component: string): string {
  if (component.startsWith(BYTES)) {
    return component.slice(BYTES.length).replace(/../g, (pair) => `%${pair.toUpperCase()}`);
  }
  // What RFC 3986 allows in a segment stays readable.
  return encodeURIComponent(component).replace(/%(3A|40|24|26|2B|2C|3B|3D)/g, (code) =>
    decodeURIComponent(code),
  );
}

/** The component that a segment names; undefined where it names none that can stand in a tree. */
export function componentOf(segment: string): string | undefined {
  let name: string;
  try {
    name = decodeURIComponent(segment);
  } catch {
    name = rawComponent(segment);
  }
  return isComponent(name) ? name : undefined;
}

/** The text can be a name in a tree as it is. */
export const isComponent = (name: string): boolean =>
  name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && !LONE_SURROGATE.test(name);

const LONE_SURROGATE = /\p{Cs}/u;

function rawComponent(segment: string): string {
  const bytes: number[] = [];
  for (let at = 0; at < segment.length; at++) {
    const code = /^%[0-9a-f]{2}/i.exec(segment.slice(at, at + 3))?.[0];
    if (code === undefined) {
      for (const byte of Buffer.from(segment[at] ?? '')) bytes.push(byte);
    } else {
      bytes.push(Number.parseInt(code.slice(1), 16));
      at += 2;
    }
  }
  return bytes.includes(0) || bytes.includes(0x2f) ? '' : BYTES + Buffer.from(bytes).toString('hex');
}
