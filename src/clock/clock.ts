/** Time as the project reads it, so that tests can own it. */
export interface Clock {
  /** Milliseconds on a clock that never goes back (CLOCK_MONOTONIC); its zero means nothing. */
  monotonic(): number;
  /** Milliseconds since 1970, for what a person or a file time shows; never compared across hosts. */
  wall(): number;
}

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
};
