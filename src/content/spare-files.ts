import { closeSync, constants, open, openSync } from 'node:fs';

/** Files that lie ready. */
const READY = 8;
const FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC;

export interface SpareFile {
  readonly id: number;
  readonly fd: number;
}

/** Empty cache files made before they are needed: making one takes a disk up to milliseconds, and a reader would wait for it. */
export class SpareFiles {
  readonly #newId: () => number;
  readonly #path: (id: number) => string;
  readonly #unlink: (id: number) => void;
  readonly #ready: SpareFile[] = [];
  #making: Promise<void> | undefined;
  #stopped = false;

  constructor(newId: () => number, path: (id: number) => string, unlink: (id: number) => void) {
    this.#newId = newId;
    this.#path = path;
    this.#unlink = unlink;
  }

  /** An empty file, from now on the caller's. Throws what open(2) says. */
  take(): SpareFile {
    const ready = this.#ready.pop();
    this.#making ??= this.#make();
    if (ready !== undefined) return ready;
    const id = this.#newId();
    return { id, fd: openSync(this.#path(id), FLAGS, 0o600) };
  }

  /** Removes what lies ready. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#making;
    for (const { id, fd } of this.#ready) {
      closeSync(fd);
      this.#unlink(id);
    }
    this.#ready.length = 0;
  }

  async #make(): Promise<void> {
    while (this.#ready.length < READY && !this.#stopped) {
      const id = this.#newId();
      const fd = await openLater(this.#path(id));
      // Whoever needs a file next hears why none can be made.
      if (fd === undefined) break;
      this.#ready.push({ id, fd });
    }
    this.#making = undefined;
  }
}

const openLater = (path: string): Promise<number | undefined> =>
  new Promise((resolve) => {
    open(path, FLAGS, 0o600, (error, fd) => resolve(error === null ? fd : undefined));
  });
