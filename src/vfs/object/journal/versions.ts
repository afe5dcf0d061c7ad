/** What became of versions that were named before the store made them, and of versions that changed their name with the key. */
import type { Precondition, Validator } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { MountIndex, StorePort } from '../../../ports/store-port.js';
import { type Intent, isOf, nonceOf } from './intent.js';

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
    // A name that comes back, as that of the same bytes does, stands for itself again.
    this.#became.delete(nameOf(key, now));
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

  /** An intent that calls the versions it depends on as the store does, as far as that is known here. */
  named<I extends Intent>(intent: I): I {
    let named: Intent = intent;
    if ('precondition' in named && named.precondition.kind === 'match') {
      const { validator } = named.precondition;
      const now = this.known(named.key, validator);
      if (now !== validator) named = { ...named, precondition: { kind: 'match', validator: now } };
    }
    if (named.kind === 'copy' && named.match !== undefined) {
      const match = this.known(named.from, named.match);
      if (match !== named.match) named = { ...named, match };
    }
    return named as I;
  }

  /** The same, by asking the store where it must be. ESTALE: the store has another version. */
  async resolve(key: string, validator: Validator): Promise<Validator> {
    const known = this.known(key, validator);
    const nonce = nonceOf(known);
    if (nonce === undefined) return known;
    const found = await this.#port.stat(this.#mount, key);
    if (found?.validator === undefined || !isOf(found.attributes?.writer, nonce)) {
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
