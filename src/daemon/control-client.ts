import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { MirageError } from '../errors/mirage-error.js';
import type { ControlAnswer, ControlRequest } from './control-protocol.js';
import { fromExplanation } from './explanation.js';
import type { DaemonStatus } from './status.js';

/** How long a living daemon may take to answer, milliseconds. */
const ANSWER_DEADLINE = 5000;

export interface RunningDaemon {
  readonly socket: string;
  readonly status: DaemonStatus;
}

/** Every daemon of this user that answers. */
export async function runningDaemons(runtimeDirectory: string): Promise<RunningDaemon[]> {
  let names: string[];
  try {
    names = readdirSync(runtimeDirectory).filter((name) => name.endsWith('.sock'));
  } catch {
    return [];
  }
  const asked = await Promise.all(
    names.map(async (name) => {
      const socket = join(runtimeDirectory, name);
      try {
        return { socket, status: await askStatus(socket) };
      } catch {
        return undefined; // left behind by a daemon that was killed
      }
    }),
  );
  return asked.filter((daemon) => daemon !== undefined);
}

export async function askStatus(socket: string): Promise<DaemonStatus> {
  for await (const answer of ask(socket, { request: 'status' }, ANSWER_DEADLINE)) {
    if ('status' in answer) return answer.status;
  }
  throw new MirageError('the daemon gave no answer', { errno: 'EIO' });
}

/** Resolves with what could not be stored now. */
export async function askDrain(
  socket: string,
  onPending: (pending: readonly string[]) => void,
): Promise<readonly string[]> {
  for await (const answer of ask(socket, { request: 'drain' })) {
    if ('pending' in answer) onPending(answer.pending);
    if ('drained' in answer) return answer.left;
  }
  throw new MirageError('the daemon ended before everything was stored', {
    errno: 'EIO',
    hint: 'what it had promised is carried out by the next mount; daemon.log in its state directory says more',
  });
}

/** Resolves with what was lost. Draining takes as long as the stores take. */
export async function askUnmount(
  socket: string,
  force: boolean,
  onPending: (pending: readonly string[]) => void,
): Promise<readonly string[]> {
  for await (const answer of ask(socket, { request: 'unmount', force })) {
    if ('pending' in answer) onPending(answer.pending);
    if ('done' in answer) return answer.lost;
  }
  throw new MirageError('the daemon ended before it had unmounted', {
    errno: 'EIO',
    hint: 'look at daemon.log in its state directory',
  });
}

async function* ask(path: string, request: ControlRequest, deadline?: number): AsyncGenerator<ControlAnswer> {
  const socket = connect(path);
  const failure = new Promise<never>((_, reject) => socket.once('error', reject));
  failure.catch(() => undefined); // read below, or the connection was already of no interest
  if (deadline !== undefined) {
    socket.setTimeout(deadline, () => socket.destroy(new MirageError('no answer', { errno: 'ETIMEDOUT' })));
  }
  try {
    socket.write(`${JSON.stringify(request)}\n`);
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    for (;;) {
      const line = await Promise.race([lines.next(), failure]);
      if (line.done) return;
      const answer = JSON.parse(line.value) as ControlAnswer;
      if ('error' in answer) throw fromExplanation(answer.error);
      yield answer;
    }
  } finally {
    socket.destroy();
  }
}
