import { MirageError } from '../../errors/mirage-error.js';

/** `work`, unless the caller is interrupted first (EINTR); what it stands for goes on. */
export function interruptible<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => undefined);
    return Promise.reject(new MirageError('interrupted', { errno: 'EINTR' }));
  }
  return new Promise((resolve, reject) => {
    const aborted = () => reject(new MirageError('interrupted', { errno: 'EINTR' }));
    signal.addEventListener('abort', aborted, { once: true });
    const settled = () => signal.removeEventListener('abort', aborted);
    work.then(
      (value) => {
        settled();
        resolve(value);
      },
      (error: unknown) => {
        settled();
        reject(error);
      },
    );
  });
}
