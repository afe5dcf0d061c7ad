/** Changes that are made at the store itself while the journal knows of them, so that a crash half-way is mended. */
import { randomUUID } from 'node:crypto';
import type { StoredAttributes, Timestamp } from '../../../backends/contract.js';
import type { Journal } from '../../../metadata/journal.js';
import type { CopyRequest } from '../../../ports/store-port.js';
import type { Intent } from './intent.js';

export interface Begun {
  /** It is done, or undone. */
  end(): void;
}

export class BegunChanges {
  readonly #journal: Journal;
  readonly #identity: string;
  readonly #now: () => Timestamp;

  constructor(journal: Journal, identity: string, now: () => Timestamp) {
    this.#journal = journal;
    this.#identity = identity;
    this.#now = now;
  }

  begin(intent: Intent): Begun {
    const sequence = this.#journal.nextSequence();
    this.#journal.change([], [{ sequence, identity: this.#identity, intent }]);
    return { end: () => this.#journal.change([sequence], []) };
  }

  move({ from, to, match, precondition, attributes, size }: CopyRequest): Begun {
    const nonce = attributes?.writer ?? randomUUID();
    return this.begin({
      kind: 'copy',
      key: to,
      nonce,
      at: this.#now(),
      from,
      match,
      precondition,
      attributes: { ...attributes, writer: nonce },
      size: size ?? 0,
      removes: true,
    });
  }

  /** Resolves when the journal has it on the disk. */
  async moveTree(from: string, to: string, attributes: StoredAttributes): Promise<Begun> {
    const made = { key: to, nonce: randomUUID(), at: this.#now() };
    const begun = this.begin({ kind: 'moveTree', ...made, from, attributes });
    await this.#journal.durable();
    return begun;
  }
}
