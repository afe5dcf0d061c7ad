import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { Certificates } from '../backends/backend-type.js';
import type { Clock } from '../clock/clock.js';

/** Milliseconds that what a store was found to honour is believed: a store that was upgraded is asked again within a day. */
const LIFETIME = 24 * 60 * 60 * 1000;

const file = z.record(z.string(), z.object({ at: z.number(), value: z.unknown() }));

/** What stores were found to honour, in one file of the state directory. It is a cache: one that cannot be read or written only costs a probe. */
export class CertificateFile implements Certificates {
  readonly #path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  read(store: string): unknown {
    const found = this.#load()[store];
    if (found === undefined) return undefined;
    const age = this.#clock.wall() - found.at;
    return age >= 0 && age < LIFETIME ? found.value : undefined;
  }

  write(store: string, value: unknown): void {
    const all = { ...this.#load(), [store]: { at: this.#clock.wall(), value } };
    try {
      const fresh = `${this.#path}.new`;
      writeFileSync(fresh, JSON.stringify(all), { mode: 0o600 });
      renameSync(fresh, this.#path);
    } catch {
      // The next mount probes again.
    }
  }

  #load(): z.output<typeof file> {
    try {
      return file.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch {
      return {};
    }
  }
}
