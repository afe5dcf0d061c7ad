/**
 * Keys of the backend and paths on the server. What a server says is not trusted: a name in a listing counts only where it is exactly
 * one step below the folder that was asked for, on the same host.
 */
export class Addresses {
  /** Scheme, host and port. */
  readonly origin: string;
  readonly #hostname: string;
  /** Decoded components of the mounted folder. */
  readonly #base: readonly string[];
  #lastFolder: { readonly key: string; readonly path: string } | undefined;

  constructor(url: string) {
    const { protocol, host, hostname, pathname } = new URL(url.replace(/^webdav/i, 'http'));
    this.origin = `${protocol}//${host}`;
    this.#hostname = hostname;
    this.#base = components(pathname) ?? [];
  }

  /** Path of a key, percent-encoded; that of a collection ends with a slash. */
  path(key: string, kind: 'file' | 'directory'): string {
    const names = key === '' ? this.#base : [...this.#base, ...key.split('/')];
    const path = `/${names.map(encodeURIComponent).join('/')}`;
    return kind === 'directory' && path !== '/' ? `${path}/` : path;
  }

  /** The same with scheme and host, as the Destination and If headers take it. */
  url(key: string, kind: 'file' | 'directory'): string {
    return this.origin + this.path(key, kind);
  }

  place(key: string, kind: 'file' | 'directory'): { readonly path: string; readonly url: string } {
    const path = this.path(key, kind);
    return { path, url: this.origin + path };
  }

  /** The folder that a key is in. */
  parentOf(key: string): { readonly path: string; readonly url: string } {
    return this.place(key.slice(0, Math.max(0, key.lastIndexOf('/'))), 'directory');
  }

  /** Whether `href` is the folder `directory` itself, or the key of a child; undefined for whatever is neither. */
  childOf(directory: string, href: string): string | undefined {
    const plain = this.#plainChild(directory, href);
    if (plain !== undefined) return plain;
    const path = this.#pathOf(href);
    const names = path === undefined ? undefined : components(path);
    if (names === undefined) return undefined;
    const above = directory === '' ? this.#base : [...this.#base, ...directory.split('/')];
    if (names.length !== above.length && names.length !== above.length + 1) return undefined;
    if (above.some((name, index) => names[index] !== name)) return undefined;
    if (names.length === above.length) return directory;
    const name = names[above.length] as string;
    if (name === '.' || name === '..' || name.includes('/') || name.includes('\0')) return undefined;
    return directory === '' ? name : `${directory}/${name}`;
  }

  /** The child that a reference names as we would, without anything that had to be decoded: nearly all of a listing. */
  #plainChild(directory: string, href: string): string | undefined {
    if (this.#lastFolder?.key !== directory) {
      this.#lastFolder = { key: directory, path: this.path(directory, 'directory') };
    }
    const folder = this.#lastFolder.path;
    if (!href.startsWith(folder)) return undefined;
    const name = href.endsWith('/') ? href.slice(folder.length, -1) : href.slice(folder.length);
    if (!PLAIN_NAME.test(name)) return undefined;
    return directory === '' ? name : `${directory}/${name}`;
  }

  /** The path of a reference: absolute, or a URL of this host (behind a proxy the server may think of another scheme or port). */
  #pathOf(href: string): string | undefined {
    if (href.startsWith('/')) return href.startsWith('//') ? undefined : withoutQuery(href);
    const [, host, path] = /^https?:\/\/([^/?#]*)(\/[^?#]*)?/i.exec(href) ?? [];
    if (host === undefined || host.includes('@')) return undefined;
    return host.replace(/:\d+$/, '').toLowerCase() === this.#hostname ? (path ?? '/') : undefined;
  }
}

const PLAIN_NAME = /^[\w-][\w.-]*$/;

const withoutQuery = (path: string): string => path.replace(/[?#].*$/s, '');

/** Decoded, without the slash at the end; undefined where it is not UTF-8 or has an empty component. */
function components(path: string): string[] | undefined {
  const inner = path.replace(/^\//, '').replace(/\/$/, '');
  if (inner === '') return [];
  try {
    const names = inner.split('/').map(decodeURIComponent);
    return names.includes('') ? undefined : names;
  } catch {
    return undefined;
  }
}
