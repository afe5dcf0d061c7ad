/**
 * Directory indexes: the HTML of nginx, Apache and their like, and the JSON of nginx and Caddy. What such a page says is taken for names, times and
 * sizes only; a link counts if it leads to exactly one name below the directory, on the same server and without a query.
 */
import { z } from 'zod';
import { resolveUrl } from './client.js';
import { componentOf, isComponent } from './names.js';

export interface IndexEntry {
  readonly name: string;
  readonly kind: 'file' | 'directory';
  /** Bytes; undefined where none are told, or rounded ones. */
  readonly size: number | undefined;
  /** Seconds since 1970; in a page of HTML in whatever time zone the server thinks. */
  readonly modified: number | undefined;
}

const fromNginx = z
  .object({
    name: z.string(),
    type: z.enum(['file', 'directory', 'other']),
    mtime: z.string().optional(),
    size: z.number().int().nonnegative().optional(),
  })
  .transform(({ name, type, mtime, size }) => ({
    name,
    isDirectory: type === 'directory',
    time: mtime,
    size,
  }));
const fromCaddy = z
  .object({
    name: z.string(),
    is_dir: z.boolean(),
    mod_time: z.string().optional(),
    size: z.number().int().nonnegative().optional(),
  })
  .transform(({ name, is_dir, mod_time, size }) => ({
    name: name.replace(/\/$/, ''),
    isDirectory: is_dir,
    time: mod_time,
    size,
  }));
const jsonIndex = z.array(z.union([fromNginx, fromCaddy]));

/** undefined: it is no index. */
export function parseJsonIndex(text: string): IndexEntry[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const index = jsonIndex.safeParse(parsed);
  if (!index.success) return undefined;
  return index.data.flatMap(({ name, isDirectory, time, size }): IndexEntry[] => {
    if (!isComponent(name)) return [];
    const at = time === undefined ? Number.NaN : Date.parse(time);
    return [
      {
        name,
        kind: isDirectory ? 'directory' : 'file',
        size: isDirectory ? undefined : size,
        modified: Number.isFinite(at) ? Math.floor(at / 1000) : undefined,
      },
    ];
  });
}

/** `directory`: where the page came from; it ends with a slash. */
export function parseHtmlIndex(text: string, directory: URL): IndexEntry[] {
  const entries = new Map<string, IndexEntry>();
  const page = withoutHiddenParts(text);
  for (let at = nextAnchor(page, 0); at >= 0; ) {
    const end = page.indexOf('>', at);
    if (end < 0) break;
    const next = nextAnchor(page, end);
    const target = targetOf(page.slice(at + 2, end), directory);
    if (target !== undefined && !entries.has(target.name)) {
      const row = rowOf(page, end + 1, next);
      const close = row.indexOf('</');
      entries.set(target.name, { ...target, ...facts(close < 0 ? row : row.slice(close), target.kind) });
    }
    at = next;
  }
  return [...entries.values()];
}

/** Scripts, styles and comments hold no entries, whatever they look like. */
function withoutHiddenParts(text: string): string {
  let shown = text;
  for (const [open, close] of HIDDEN) {
    const lower = shown.toLowerCase();
    let at = lower.indexOf(open);
    if (at < 0) continue;
    let kept = '';
    let from = 0;
    while (at >= 0) {
      kept += shown.slice(from, at);
      const end = lower.indexOf(close, at + open.length);
      from = end < 0 ? shown.length : end + close.length;
      at = lower.indexOf(open, from);
    }
    shown = kept + shown.slice(from);
  }
  return shown;
}

const HIDDEN = [
  ['<!--', '-->'],
  ['<script', '</script'],
  ['<style', '</style'],
] as const;

function nextAnchor(page: string, from: number): number {
  ANCHOR.lastIndex = from;
  return ANCHOR.exec(page)?.index ?? -1;
}

const ANCHOR = /<a\s/gi;

/** What stands behind the start of a link in the same row or line: its text, time and size. */
function rowOf(page: string, from: number, next: number): string {
  const text = page.slice(from, Math.min(next < 0 ? page.length : next, from + ROW_CHARACTERS));
  const end = text.search(/<\/tr|<\/li|\n\s*(?=<a|<img|<\/pre|$)/i);
  return end < 0 ? text : text.slice(0, end);
}

const ROW_CHARACTERS = 4096;

function targetOf(tag: string, directory: URL): Pick<IndexEntry, 'name' | 'kind'> | undefined {
  const match = /\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))/i.exec(tag);
  const href = unescapeHtml(match?.[1] ?? match?.[2] ?? match?.[3] ?? '').trim();
  const [, segment, slash] = PLAIN.exec(href) ?? segmentBelow(href, directory) ?? [];
  const name = segment === undefined || /^(\.|%2e){1,2}$/i.test(segment) ? undefined : componentOf(segment);
  return name === undefined ? undefined : { name, kind: slash === '/' ? 'directory' : 'file' };
}

/** One segment, and perhaps the slash of a directory: nearly every link. */
const PLAIN = /^(?:\.\/)?([\w%~@!$&'()*+,;=.-]+)(\/?)$/;

/** The same of a link that says more than it has to: undefined where it leads elsewhere, or climbs and comes back. */
function segmentBelow(href: string, directory: URL): readonly string[] | undefined {
  if (href === '' || /[?#\\]/.test(href) || /(^|\/)(\.|%2e){1,2}(\/|$)/i.test(href)) return undefined;
  const url = resolveUrl(href, directory);
  if (url === undefined || url.origin !== directory.origin) return undefined;
  if (!url.pathname.startsWith(directory.pathname)) return undefined;
  return /^([^/]+)(\/?)$/.exec(url.pathname.slice(directory.pathname.length)) ?? undefined;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeHtml(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos));/gi,
    (all, decimal, hex, name) => {
      if (name !== undefined) return ENTITIES[String(name).toLowerCase()] ?? all;
      const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
      return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
    },
  );
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
/** `21-Nov-2026 14:12` (nginx), `2026-11-21 14:12` (Apache), `2026-Nov-21 14:12:03` (lighttpd). */
const DATE = /\b(\d{1,4})-(\d{1,2}|[a-z]{3})-(\d{1,4})[ T]+(\d{2}):(\d{2})(?::(\d{2}))?/i;

function facts(html: string, kind: IndexEntry['kind']): Pick<IndexEntry, 'size' | 'modified'> {
  const text = html.replace(/<[^<>]*>/g, ' ').replace(/&nbsp;/gi, ' ');
  const date = DATE.exec(text);
  if (date === null) return { size: undefined, modified: undefined };
  const [all, first = '', month = '', last = '', hour, minute, second = '0'] = date;
  const [year, day] = first.length === 4 ? [first, last] : [last, first];
  const number = /^\d/.test(month) ? Number(month) : MONTHS.indexOf(month.toLowerCase()) + 1;
  const at = Date.UTC(Number(year), number - 1, Number(day), Number(hour), Number(minute), Number(second));
  // A number without a unit is a number of bytes.
  const size = /^\s*(\d{1,15})(?![\d.,]|\s*[kmgtpb])/i.exec(text.slice(date.index + all.length))?.[1];
  return {
    size: kind === 'directory' || size === undefined ? undefined : Number(size),
    modified: Number.isFinite(at) ? at / 1000 : undefined,
  };
}
