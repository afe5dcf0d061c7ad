import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { ControlAnswer, ControlRequest } from './control-protocol.js';
import { explain } from './explanation.js';
import type { DaemonStatus } from './status.js';

export interface Controlled {
  status(): Promise<DaemonStatus>;
  /** Resolves, with what is left, when everything that can be stored is. */
  drain(onPending: (pending: readonly string[]) => void): Promise<readonly string[]>;
  /** Resolves, with what was lost, when nothing is mounted any more; rejects when the mount had to stay. */
  unmount(force: boolean, onPending: (pending: readonly string[]) => void): Promise<readonly string[]>;
}

export interface ControlServer {
  close(): Promise<void>;
}

/** Listens on a unix socket that only this user can reach. The caller holds the lock of the state directory, so a socket that lies there is dead. */
export async function serveControl(path: string, daemon: Controlled): Promise<ControlServer> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  chmodSync(dirname(path), 0o700);
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A client that goes away is its own affair.
    socket.on('error', () => socket.destroy());
    const send = (answer: ControlAnswer): void => {
      if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
    };
    createInterface({ input: socket }).on('line', (line) => void answer(line, daemon, send));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // What was written last still goes out.
        for (const socket of sockets) socket.destroySoon();
      }),
  };
}

async function answer(
  line: string,
  daemon: Controlled,
  send: (answer: ControlAnswer) => void,
): Promise<void> {
  try {
    const request = JSON.parse(line) as ControlRequest;
    if (request.request === 'status') send({ status: await daemon.status() });
    else if (request.request === 'drain') {
      send({ drained: true, left: await daemon.drain((pending) => send({ pending })) });
    } else if (request.request === 'unmount') {
      send({ done: true, lost: await daemon.unmount(request.force, (pending) => send({ pending })) });
    }
  } catch (error) {
    send({ error: explain(error) });
  }
}
