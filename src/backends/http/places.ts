/** Where the keys of a mount are on the web: below one URL, or as a manifest lists them. */

import { segmentOf } from './names.js';
import type { HttpOptions, ManifestFile } from './options.js';

/** What the configuration itself says of a file. */
export interface Given {
  readonly url: URL;
  readonly size?: number | undefined;
  /** Milliseconds since 1970. */
  readonly modified?: number | undefined;
  /** A strong ETag in its quotes. */
  readonly etag?: string | undefined;
}

export interface GivenEntry {
  readonly name: string;
  /** undefined: a directory. */
  readonly file: Given | undefined;
}

/** What is known of the keys without asking anybody. */
export interface Places {
  /** Where a file of this key is or would be; undefined: there is none. */
  file(key: string): Given | undefined;
  /** The index of a directory; undefined where the configuration lists it. */
  index(key: string): URL | undefined;
  /** A directory that the configuration lists; undefined: it has none of this key. */
  listed(key: string): readonly GivenEntry[] | undefined;
}

/** Everything below one URL, which ends with a slash. */
export class TreePlaces implements Places {
  readonly #base: URL;

  constructor(base: URL) {
    this.#base = base;
  }

  file(key: string): Given | undefined {
    return key === '' ? undefined : { url: this.#url(key, '') };
  }

  index(key: string): URL {
    return key === '' ? this.#base : this.#url(key, '/');
  }

  listed(): undefined {
    return undefined;
  }

  #url(key: string, end: string): URL {
    const url = new URL(this.#base);
    url.pathname += key.split('/').map(segmentOf).join('/') + end;
    return url;
  }
}

/** Files that the configuration lists, each somewhere. */
export class ManifestPlaces implements Places {
  readonly #files = new Map<string, Given>();
  readonly #directories = new Map<string, Map<string, Given | undefined>>([['', new Map()]]);

  constructor(files: Readonly<Record<string, string | ManifestFile>>) {
    for (const [key, file] of Object.entries(files)) {
      const given = givenOf(file);
      this.#files.set(key, given);
      this.#enter(key, given);
    }
  }

  file(key: string): Given | undefined {
    return this.#files.get(key);
  }

  index(): undefined {
    return undefined;
  }

  listed(key: string): readonly GivenEntry[] | undefined {
    const entries = this.#directories.get(key);
    return entries && [...entries].map(([name, file]) => ({ name, file }));
  }

  #enter(key: string, file: Given | undefined): void {
    const slash = key.lastIndexOf('/');
    const directory = key.slice(0, Math.max(0, slash));
    let entries = this.#directories.get(directory);
    if (entries === undefined) {
      entries = new Map();
      this.#directories.set(directory, entries);
      this.#enter(directory, undefined);
    }
    const name = key.slice(slash + 1);
    entries.set(name, file ?? entries.get(name));
  }
}

function givenOf(file: string | ManifestFile): Given {
  if (typeof file === 'string') return { url: new URL(file) };
  const { url, size, modified, etag } = file;
  return {
    url: new URL(url),
    size,
    modified: modified === undefined ? undefined : Date.parse(modified),
    etag: etag === undefined ? undefined : etag.startsWith('"') ? etag : `"${etag}"`,
  };
}

/** The one file that a URL without a slash at its end names. */
export function singleFile(url: URL): Places {
  const last = url.pathname.split('/').at(-1) ?? '';
  return new ManifestPlaces({ [nameOf(last) || url.hostname]: url.href });
}

function nameOf(segment: string): string {
  try {
    return decodeURIComponent(segment).replaceAll(/[/\0]/g, '_');
  } catch {
    return segment;
  }
}

/** What is mounted, for the metadata cache: never a query, which may hold a signature. */
export function identityOf(options: HttpOptions, digest: (text: string) => string): string {
  if (options.url === undefined) return `http:files:${digest(JSON.stringify(options.files))}`;
  const url = new URL(options.url);
  const query = url.search === '' ? '' : `?${digest(url.search)}`;
  return `http:${url.origin}${url.pathname}${query}`;
}
