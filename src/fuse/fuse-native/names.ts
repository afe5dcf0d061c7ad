import type { ByteString } from '../../vfs/operations.js';

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What fuse-native's decoder puts where a path was not valid UTF-8: the bytes are gone by then. */
const REPLACEMENT = '\ufffd';

const isAscii = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
};

/** The bytes (UTF-8) of a name or path as fuse-native hands it over. */
export const toBytes = (text: string): ByteString =>
  isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1');

/** The text of a byte string, or undefined where its bytes are not UTF-8: such a name cannot pass this binding. */
export function toText(bytes: ByteString): string | undefined {
  if (isAscii(bytes)) return bytes;
  try {
    return strict.decode(Buffer.from(bytes, 'latin1'));
  } catch {
    return undefined;
  }
}

/** The name may stand for other bytes than the program gave. */
export const isMangled = (text: string): boolean => text.includes(REPLACEMENT);

/** Components of an absolute path. */
export const components = (path: string): ByteString[] =>
  toBytes(path)
    .split('/')
    .filter((component) => component !== '');

/** Folder and last component of an absolute path; the root has no last component. */
export function splitPath(path: string): { folder: string; name: string } {
  const slash = path.lastIndexOf('/');
  return { folder: path.slice(0, slash), name: path.slice(slash + 1) };
}
