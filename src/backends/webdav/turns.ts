/** One after the other, for each path: who comes waits for those who came before. */
export class Turns {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits for the turn; the next one begins when the function that is returned is called. */
  async take(path: string): Promise<() => void> {
    const before = this.#last.get(path);
    let end = (): void => undefined;
    const mine = new Promise<void>((resolve) => {
      end = resolve;
    });
    const turn = Promise.all([before, mine]).then(() => {
      if (this.#last.get(path) === turn) this.#last.delete(path);
    });
    this.#last.set(path, turn);
    await before;
    return end;
  }

  async run<T>(path: string, work: () => Promise<T>): Promise<T> {
    const end = await this.take(path);
    try {
      return await work();
    } finally {
      end();
    }
  }

  /** When everybody who has come so far is done. */
  async settled(path: string): Promise<void> {
    await this.#last.get(path);
  }

  async allSettled(): Promise<void> {
    await Promise.all(this.#last.values());
  }
}
