/** Gathers removals that many ask for at the same time into few calls of the store: while some are under way the next ones come together. */
import type { Precondition, Removal } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';

/** Removals in one call: what one request of the largest stores takes. */
const BATCH = 1000;
/** Calls at the same time. */
const AT_ONCE = 4;
/** How long the first of a batch waits for others, milliseconds: a request for one costs as much as one for ten. */
const GATHER = 20;

interface Waiting extends Removal {
  resolve(): void;
  reject(error: unknown): void;
}

export class Removals {
  readonly #port: StorePort;
  readonly #mount: MountIndex;
  #waiting: Waiting[] = [];
  #running = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(port: StorePort, mount: MountIndex) {
    this.#port = port;
    this.#mount = mount;
  }

  /** Resolves when the object is gone. ESTALE: it is another version. */
  remove(key: string, precondition: Precondition): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, precondition, resolve, reject });
      if (this.#timer !== undefined) return;
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#pump();
      }, GATHER);
    });
  }

  #pump(): void {
    while (this.#running < AT_ONCE && this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH);
      this.#running++;
      void this.#send(batch).finally(() => {
        this.#running--;
        this.#pump();
      });
    }
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    const removals = batch.map(({ key, precondition }) => ({ key, precondition }));
    try {
      const outcomes = await this.#port.removeMany(this.#mount, removals);
      batch.forEach(({ resolve, reject }, index) => {
        const error = outcomes[index];
        if (error === undefined || MirageError.is(error, 'ENOENT')) resolve();
        else reject(error);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
