/** What became of versions that were named before the store made them, and of versions that changed their name with the key. */
import type { Precondition, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';
import { nonceOf } from './intent.js';

/** Names that are remembered; of an older one the store is asked. */
const REMEMBERED = 50_000;

export class Versions {
  readonly #port: StorePort;
  readonly #mount: MountIndex;
  readonly #became = new Map<string, Validator>();

  constructor(port: StorePort, mount: MountIndex) {
    this.#port = port;
    this.#mount = mount;
  }

  became(key: string, before: Validator, now: Validator): void {
    if (before === now) return;
    this.#became.set(nameOf(key, before), now);
    if (this.#became.size <= REMEMBERED) return;
    for (const oldest of this.#became.keys()) {
      this.#became.delete(oldest);
      return;
    }
  }

  /** The name that the store has for a version, as far as it is known here. */
  known(key: string, validator: Validator): Validator {
    let name = validator;
    for (let next = this.#became.get(nameOf(key, name)); next !== undefined; ) {
      name = next;
      next = this.#became.get(nameOf(key, name));
    }
    return name;
  }

  /** The same, by asking the store where it must be. ESTALE: the store has another version. */
  async resolve(key: string, validator: Validator): Promise<Validator> {
    const known = this.known(key, validator);
    const nonce = nonceOf(known);
    if (nonce === undefined) return known;
    const found = await this.#port.stat(this.#mount, key);
    if (found?.validator === undefined || found.attributes?.writer !== nonce) {
      throw new MirageError(`${key} was changed by another writer`, { errno: 'ESTALE' });
    }
    this.became(key, validator, found.validator);
    return found.validator;
  }

  async precondition(key: string, precondition: Precondition): Promise<Precondition> {
    if (precondition.kind !== 'match') return precondition;
    return { kind: 'match', validator: await this.resolve(key, precondition.validator) };
  }
}

const nameOf = (key: string, validator: Validator): string => `${key}\n${validator}`;
