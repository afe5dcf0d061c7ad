import type { Call, FileSystem } from '../../src/vfs/operations.js';

/** GETATTRs that the file system was asked, and what happened to calls that hang until they are interrupted. */
export interface Calls {
  getattr: number;
  slow: number;
  hung: number;
  interrupted: number;
}

/**
 * A file system that can be slow: every operation answers in a later turn when `asynchronous`, a LOOKUP of `slow` after half a second, and
 * one of `hang` never, until it is interrupted.
 */
export function unhurried(
  fileSystem: FileSystem,
  asynchronous: boolean,
): { fileSystem: FileSystem; calls: Calls } {
  const calls: Calls = { getattr: 0, slow: 0, hung: 0, interrupted: 0 };
  const later = new Proxy(fileSystem, {
    get(target, name) {
      const operation = Reflect.get(target, name) as (...values: unknown[]) => unknown;
      return (...values: unknown[]) => {
        if (name === 'getattr') calls.getattr++;
        if (name === 'lookup' && values[2] === 'hang') return hang(values[0] as Call);
        if (name === 'lookup' && values[2] === 'slow') return slow(() => operation.apply(target, values));
        const run = () => operation.apply(target, values);
        if (!asynchronous || name === 'forget') return run();
        const source = name === 'write' ? 4 : -1;
        if (source >= 0) values[source] = (values[source] as { retain(): unknown }).retain();
        return new Promise((resolve) => setImmediate(resolve)).then(run);
      };
    },
  });
  async function slow(run: () => unknown): Promise<unknown> {
    calls.slow++;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return run();
  }
  function hang(call: Call): Promise<void> {
    calls.hung++;
    return new Promise((_resolve, reject) => {
      call.signal.addEventListener('abort', () => {
        calls.interrupted++;
        reject(call.signal.reason);
      });
    });
  }
  return { fileSystem: later, calls };
}
