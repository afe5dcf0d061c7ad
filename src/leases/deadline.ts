/** Both go on by themselves and are never compared with those of another host. Milliseconds, whatever their zero. */
export interface LeaseClock {
  /** May stand still while the host sleeps. */
  monotonic(): number;
  /** Counts the time that the host slept, where the host tells. */
  boot(): number;
}

/** Clocks of two hosts run apart by less than this part of the time they measure. */
const DRIFT = 0.02;

/** When a holder stops believing: whichever of the two clocks says so first, for a host that slept has not noticed. */
export class Deadline {
  readonly #clock: LeaseClock;
  readonly #monotonic: number;
  readonly #boot: number;

  private constructor(clock: LeaseClock, monotonic: number, boot: number) {
    this.#clock = clock;
    this.#monotonic = monotonic;
    this.#boot = boot;
  }

  /** To be made before the request is sent that the term begins with. */
  static of(clock: LeaseClock, term: number): Deadline {
    const length = term * (1 - DRIFT);
    return new Deadline(clock, clock.monotonic() + length, clock.boot() + length);
  }

  /** Milliseconds, 0 when it has passed. */
  get left(): number {
    const left = Math.min(this.#monotonic - this.#clock.monotonic(), this.#boot - this.#clock.boot());
    return Math.max(0, left);
  }
}

/** How long a waiter must see no sign of life, milliseconds on its own clock, before the lock is nobody's. */
export const patience = (term: number): number => term * (1 + DRIFT);
