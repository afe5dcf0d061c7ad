import type { FileServer } from '../backends/file-server.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type { FileServerPort } from '../ports/file-server-port.js';
import type { MountIndex, StorePort } from '../ports/store-port.js';
import { explain } from './explanation.js';

/** Answers that are part of the day: nothing is wrong with the store. */
const ordinary = ['ENOENT', 'EEXIST', 'ENOTEMPTY', 'ESTALE', 'EINTR', 'ECANCELED', 'ENOTSUP', 'EBADF'];

/**
 * A store port that tells the log, and with it `.mirage/last-error`, what went wrong with a store. The same failure of the same
 * store is told once until something else happens: a program that tries in a loop fills no disk.
 */
export function observedStores(port: StorePort, pathOf: (mount: MountIndex) => string, log: Log): StorePort {
  const tell = teller(pathOf, log);
  return new Proxy(port, {
    get(target, name) {
      const method = Reflect.get(target, name, target) as unknown;
      if (typeof method !== 'function' || typeof name !== 'string') return method;
      return (mount: MountIndex, ...parameters: readonly unknown[]): unknown => {
        const answer: unknown = Reflect.apply(method, target, [mount, ...parameters]);
        if (answer instanceof Promise) answer.catch((error: unknown) => tell(mount, name, error));
        return answer;
      };
    },
  });
}

/** The same for file servers. */
export function observedServers(
  port: FileServerPort,
  pathOf: (mount: MountIndex) => string,
  log: Log,
): FileServerPort {
  const tell = teller(pathOf, log);
  const observed = new WeakMap<FileServer, FileServer>();
  const observe = (server: FileServer, mount: MountIndex): FileServer =>
    new Proxy(server, {
      get(target, name) {
        const method = Reflect.get(target, name, target) as unknown;
        if (typeof method !== 'function' || typeof name !== 'string') return method;
        return (...parameters: readonly unknown[]): unknown => {
          const answer: unknown = Reflect.apply(method, target, parameters);
          if (answer instanceof Promise) answer.catch((error: unknown) => tell(mount, name, error));
          return answer;
        };
      },
    });
  return {
    fileServer(mount) {
      const server = port.fileServer(mount);
      const known = observed.get(server) ?? observe(server, mount);
      observed.set(server, known);
      return known;
    },
  };
}

function teller(
  pathOf: (mount: MountIndex) => string,
  log: Log,
): (mount: MountIndex, operation: string, error: unknown) => void {
  let told = '';
  return (mount, operation, error) => {
    if (MirageError.is(error) && ordinary.includes(error.errno)) return;
    const { errno, what, why, remedy } = explain(error);
    const failure = `${mount} ${errno} ${what}`;
    if (failure === told) return;
    told = failure;
    log.warn(what, { mount: pathOf(mount), operation, errno, why, do: remedy });
  };
}
