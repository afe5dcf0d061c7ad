/** Directories that a program walking the tree is about to read: their listings are asked for before it comes to them. */

/** Listings ahead under way at a time, and those that may wait. */
const UNDER_WAY = 16;
const WAITING = 256;

export class ListAhead {
  readonly #list: (path: string) => Promise<void>;
  readonly #waiting = new Set<string>();
  #underWay = 0;

  /** `list` brings a listing up to date; its failure is nobody's. */
  constructor(list: (path: string) => Promise<void>) {
    this.#list = list;
  }

  /** In the order in which they will be wanted. */
  want(paths: readonly string[]): void {
    for (const path of paths) {
      if (this.#waiting.size >= WAITING) break;
      this.#waiting.add(path);
    }
    this.#start();
  }

  /** The program is there: nothing is to be done ahead. */
  arrived(path: string): void {
    this.#waiting.delete(path);
  }

  close(): void {
    this.#waiting.clear();
  }

  #start(): void {
    for (const path of this.#waiting) {
      if (this.#underWay >= UNDER_WAY) return;
      this.#waiting.delete(path);
      this.#underWay++;
      const ended = () => {
        this.#underWay--;
        this.#start();
      };
      this.#list(path).then(ended, ended);
    }
  }
}
