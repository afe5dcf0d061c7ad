import type { ObjectVolumeOptions } from './parts.js';

/** How long names are believed, by where they are. Milliseconds. */
export class Lifetimes {
  readonly #everywhere: number;
  readonly #shortest: number;
  /** The nearest folder comes first. */
  readonly #folders: readonly { readonly key: string; readonly ttl: number }[];

  constructor({ ttl, ttls }: Pick<ObjectVolumeOptions, 'ttl' | 'ttls'>) {
    this.#everywhere = ttl;
    this.#shortest = Math.min(ttl, ...Object.values(ttls));
    this.#folders = Object.entries(ttls)
      .map(([key, own]) => ({ key, ttl: own }))
      .sort((left, right) => right.key.length - left.key.length);
  }

  /** Of the names in a directory, by its key; undefined: the shortest of all, where nobody says which directory it is. */
  of(directory: string | undefined): number {
    if (this.#folders.length === 0) return this.#everywhere;
    if (directory === undefined) return this.#shortest;
    for (const { key, ttl } of this.#folders) {
      if (directory === key || (directory.startsWith(key) && directory[key.length] === '/')) return ttl;
    }
    return this.#everywhere;
  }
}
