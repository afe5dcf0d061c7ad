import type { Headers } from './versions.js';

/** Bytes of a response head at most. */
export const LARGEST_HEAD = 64 * 1024;

export interface ResponseHead {
  readonly status: number;
  readonly headers: Headers;
}

const STATUS_LINE = /^HTTP\/1\.1 (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/;
/** Fields that frame or name the body: two of them could be understood in two ways. */
const SINGLE = new Set(['content-length', 'content-range', 'content-encoding', 'etag', 'last-modified']);

/**
 * The status line and the fields of an HTTP/1.1 response, without the empty line at their end (RFC 9112, sections 4 and 5). Strict: undefined is
 * everything that could be understood in more than one way, folded lines and bare line feeds included.
 */
export function parseResponseHead(text: string): ResponseHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = STATUS_LINE.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const line of lines) {
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name === undefined || value === undefined) return undefined;
    const key = name.toLowerCase();
    const before = headers[key];
    if (before !== undefined && SINGLE.has(key)) return undefined;
    const trimmed = value.trimEnd();
    headers[key] = before === undefined ? trimmed : [before, trimmed].flat();
  }
  return { status: Number(status), headers };
}
