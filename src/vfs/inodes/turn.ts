/** One at a time: whoever comes waits for all who came before. */
export class Turn {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  get busy(): boolean {
    return this.#waiting > 0;
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const mine = this.#last.then(work).finally(() => {
      this.#waiting--;
    });
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}

/** Many together or one alone: changes of single files run together, the move of a whole tree alone. */
export class Gate {
  #inside = 0;
  #closed: Promise<unknown> | undefined;
  #left: (() => void) | undefined;
  readonly #alone = new Turn();

  async together<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed !== undefined) await this.#closed;
    this.#inside++;
    try {
      return await work();
    } finally {
      this.#inside--;
      if (this.#inside === 0) this.#left?.();
    }
  }

  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#alone.run(async () => {
      let open: () => void = () => undefined;
      this.#closed = new Promise<void>((resolve) => {
        open = resolve;
      });
      try {
        if (this.#inside > 0) {
          await new Promise<void>((resolve) => {
            this.#left = resolve;
          });
        }
        return await work();
      } finally {
        this.#left = undefined;
        this.#closed = undefined;
        open();
      }
    });
  }
}
