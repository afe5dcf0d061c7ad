/**
 * Keys of the backend and keys of the bucket. A directory `a/b` is what lies below the prefix `a/b/`, and its own
 * object, the marker, is named like the prefix.
 */
export class KeySpace {
  /** Ends with a slash unless empty. */
  readonly #base: string;

  constructor(prefix: string | undefined) {
    const trimmed = (prefix ?? '').replace(/^\/+|\/+$/g, '');
    this.#base = trimmed === '' ? '' : `${trimmed}/`;
  }

  get base(): string {
    return this.#base;
  }

  /** Bytes of a key that the prefix leaves of the 1024 S3 allows. */
  get maximumBytes(): number {
    return 1024 - Buffer.byteLength(this.#base);
  }

  object(key: string): string {
    return this.#base + key;
  }

  /** The prefix of what lies in a directory, and the key of its marker. `''`: the root of a bucket, which has no marker. */
  directory(key: string): string {
    return key === '' ? this.#base : `${this.#base}${key}/`;
  }

  /** The backend's key of an object that a listing shows. */
  fromObject(object: string): string {
    return object.slice(this.#base.length);
  }

  /** The backend's key of a common prefix, `undefined` for the one that a leading slash makes: it would be the root. */
  fromPrefix(prefix: string): string | undefined {
    const key = prefix.slice(this.#base.length, -1);
    return key === '' ? undefined : key;
  }
}
