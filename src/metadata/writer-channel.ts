import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Log } from '../log/log.js';
import { Writer, type WriterAnswer, type WriterRequest } from './writer.js';

/** The way to the writer. One request at a time. */
export interface WriterChannel {
  send(request: WriterRequest): Promise<WriterAnswer>;
}

/** The compiled entry of the writer's thread lies beside this module; run from TypeScript sources there is none. */
const threadEntry = new URL('./writer-thread.js', import.meta.url);

/** A writer on its own thread; on this one where asked for, or where its entry is not compiled. */
export function openWriter(file: string, inThread: boolean, log: Log): WriterChannel {
  return inThread || !existsSync(fileURLToPath(threadEntry)) ? inlineWriter(file) : threadWriter(file, log);
}

function inlineWriter(file: string): WriterChannel {
  const writer = new Writer(file);
  return { send: async (request) => writer.handle(request) };
}

function threadWriter(file: string, log: Log): WriterChannel {
  const worker = new Worker(threadEntry, {
    workerData: { file },
    name: 'metadata-writer',
    execArgv: [],
    // What it is sent lives for one transaction: room for more would only be memory of the process.
    resourceLimits: { maxYoungGenerationSizeMb: 12, maxOldGenerationSizeMb: 256 },
  });
  let fallback: WriterChannel | undefined;
  let current: { request: WriterRequest; answer: (answer: WriterAnswer) => void } | undefined;

  worker.on('message', (answer: WriterAnswer) => {
    const asked = current;
    current = undefined;
    asked?.answer(answer);
  });
  // The connection of the thread is gone with it, so this thread may take over; what was not committed is asked again.
  worker.on('error', (error) => {
    log.error('the metadata writer thread failed; writing goes on without it', { error: error.message });
    fallback = inlineWriter(file);
    const asked = current;
    current = undefined;
    if (asked) void fallback.send(asked.request).then(asked.answer);
  });

  return {
    send(request) {
      if (fallback) return fallback.send(request);
      return new Promise((answer) => {
        current = { request, answer };
        worker.postMessage(request);
      });
    },
  };
}
