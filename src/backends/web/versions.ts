import type { Timestamp, Validator } from '../contract.js';

/** Header name in lower case → value; a name that came several times has a list. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>;

export function header(headers: Headers, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** What an answer says of the whole object, whichever part of it the answer carries (RFC 9110, sections 8 and 14.4). */
export interface Described {
  /** undefined: not told, or told of an encoded form. */
  readonly size: number | undefined;
  readonly modified: Timestamp;
  readonly validator: Validator | undefined;
  /** The content codings that the body has to be freed of, outermost last. */
  readonly codings: readonly string[];
}

export interface ContentRange {
  readonly start: number;
  /** Past the last byte. */
  readonly end: number;
  /** Of the whole object; undefined: `*`. */
  readonly size: number | undefined;
}

export function describe(status: number, headers: Headers): Described {
  const codings = codingsOf(headers);
  const size = codings.length > 0 ? undefined : sizeOf(status, headers);
  return {
    size,
    modified: { seconds: lastModified(headers) ?? 0, nanoseconds: 0 },
    validator: validatorOf(headers, size),
    codings,
  };
}

/**
 * A strong ETag is the validator as it stands, in its quotes. A weak one says that two versions are as good as each other, not that their bytes
 * are: time and size are added. Without any of these there is no validator.
 */
function validatorOf(headers: Headers, size: number | undefined): Validator | undefined {
  const etag = header(headers, 'etag')?.trim();
  if (etag !== undefined && isStrong(etag)) return etag;
  const modified = lastModified(headers);
  if (etag === undefined && modified === undefined) return undefined;
  return `${etag ?? ''}${timeAndSize(modified, size)}`;
}

/** Where there is nothing better: seconds since 1970 and bytes, as far as they are known. */
export const timeAndSize = (modified: number | undefined, size: number | undefined): Validator =>
  `@${modified ?? ''}+${size ?? ''}`;

/** The validator is a strong ETag: bytes of two answers that carry it belong together. */
export const isStrong = (validator: string): boolean => validator.startsWith('"');

/** Preconditions for an answer of this version only; empty where none can be said and the answer has to be looked at. */
export function conditionOf(validator: Validator): Record<string, string> {
  if (isStrong(validator)) return { 'if-match': validator };
  const seconds = /@(\d+)\+\d*$/.exec(validator)?.[1];
  return seconds === undefined
    ? {}
    : { 'if-unmodified-since': new Date(Number(seconds) * 1000).toUTCString() };
}

/** Seconds since 1970. */
export function lastModified(headers: Headers): number | undefined {
  const text = header(headers, 'last-modified');
  const milliseconds = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isFinite(milliseconds) ? Math.floor(milliseconds / 1000) : undefined;
}

export function contentRange(headers: Headers): ContentRange | undefined {
  const [, first, last, size] =
    /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header(headers, 'content-range') ?? '') ?? [];
  if (first === undefined) return undefined;
  const range = {
    start: Number(first),
    end: Number(last) + 1,
    size: size === '*' ? undefined : Number(size),
  };
  return range.end > range.start ? range : undefined;
}

function sizeOf(status: number, headers: Headers): number | undefined {
  if (status === 206) return contentRange(headers)?.size;
  if (status === 416) {
    const size = /^bytes \*\/(\d+)$/.exec(header(headers, 'content-range') ?? '')?.[1];
    return size === undefined ? undefined : Number(size);
  }
  const length = header(headers, 'content-length');
  return length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined;
}

function codingsOf(headers: Headers): string[] {
  const value = headers['content-encoding'];
  return (Array.isArray(value) ? value.join(',') : (value ?? ''))
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== '' && coding !== 'identity');
}
