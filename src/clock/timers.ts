/** Waiting as the project does it, so that tests can own time. */
export interface Timers {
  /** Calls back once after `milliseconds`, unless cancelled first. */
  after(milliseconds: number, callback: () => void): { cancel(): void };
}

export const systemTimers: Timers = {
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Resolves after `milliseconds`; rejects with the signal's reason when aborted first. */
export function sleep(timers: Timers, milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const aborted = () => {
      timer.cancel();
      reject(signal.reason);
    };
    const timer = timers.after(milliseconds, () => {
      signal.removeEventListener('abort', aborted);
      resolve();
    });
    signal.addEventListener('abort', aborted, { once: true });
  });
}
