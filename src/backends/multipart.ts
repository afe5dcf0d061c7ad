import type { Backend, ByteSource, Context, ObjectInfo, Precondition, WriteOptions } from './contract.js';

/** A part of an object that is sent in parts: `length` bytes from `offset`. Numbers begin with 1 and go on without a gap. */
export interface Part {
  readonly number: number;
  readonly offset: number;
  readonly length: number;
}

/** A part that the store has. */
export interface SentPart {
  readonly number: number;
  readonly length: number;
  /** What the store calls it. */
  readonly tag: string;
  /** MD5 of its bytes in hex, where the store tells it. */
  readonly md5?: string | undefined;
}

/** An upload under way: the id is the store's, and outlives this process. */
export interface Upload {
  readonly key: string;
  readonly id: string;
}

/**
 * Objects sent in parts, in any order and many at a time, that become the object by one request. What the store has of an upload is still there
 * after this process has ended. Errors are MirageError; ENOENT: there is no such upload any more.
 */
export interface Multipart {
  /** Bytes above which an object is best sent in parts under such a precondition. */
  above(precondition: Precondition): number;
  /** Bytes of a part to begin with, and how many parts there may be. */
  readonly part: number;
  readonly maximumParts: number;
  /** Parts of one object that are best under way at a time. */
  readonly parallel: number;
  begin(key: string, options: WriteOptions, context: Context): Promise<string>;
  /** Sends a part of `source`. ENOTSUP: what is under the key cannot be replaced in parts. */
  send(upload: Upload, part: Part, source: ByteSource, context: Context): Promise<SentPart>;
  /** Makes the object of these parts, which are all there are, in order. */
  complete(
    upload: Upload,
    parts: readonly SentPart[],
    options: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo>;
  abort(upload: Upload, context: Context): Promise<void>;
  /** What the store has of it. */
  sent(upload: Upload, context: Context): Promise<readonly SentPart[]>;
  /** Uploads of a key that are under way, whoever began them; where a store can tell. `begun`: milliseconds since 1970. */
  underWay?(
    key: string,
    context: Context,
  ): Promise<readonly { readonly id: string; readonly begun: number }[]>;
}

export interface MultipartBackend extends Backend {
  readonly multipart: Multipart;
}

export const hasMultipart = (backend: Backend): backend is MultipartBackend =>
  'multipart' in backend && backend.multipart !== undefined;

/**
 * The parts of an object of `size` bytes. Where a part lies does not depend on the size, so the first ones can go before anybody knows it: they
 * begin small and double each time a tenth of all that there may be is used. So 16 MiB and 10,000 parts make 15 TB.
 */
export function partsOf(
  size: number,
  { part, maximumParts }: Pick<Multipart, 'part' | 'maximumParts'>,
): Part[] {
  const step = Math.floor(maximumParts / 10);
  const parts: Part[] = [];
  for (let offset = 0; offset < size; ) {
    const length = Math.min(size - offset, part * 2 ** Math.floor(parts.length / step));
    parts.push({ number: parts.length + 1, offset, length });
    offset += length;
  }
  return parts;
}
