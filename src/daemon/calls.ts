import type { MessagePort, Worker } from 'node:worker_threads';
import { fromPlainError, type PlainError, toPlainError } from '../errors/mirage-error.js';

/** An object whose methods all return promises of plain data: it can be called from another thread. */
export type Callable<T> = {
  readonly [K in keyof T]: T[K] extends (...parameters: infer P) => Promise<infer R>
    ? (...parameters: P) => Promise<R>
    : never;
};

type Channel = Pick<MessagePort | Worker, 'postMessage' | 'on' | 'off'>;

interface CallMessage {
  readonly call: number;
  readonly method: string;
  readonly parameters: readonly unknown[];
}
interface AnswerMessage {
  readonly answer: number;
  readonly result?: unknown;
  readonly error?: PlainError;
}

const isCall = (message: unknown): message is CallMessage =>
  typeof message === 'object' && message !== null && 'call' in message;
const isAnswer = (message: unknown): message is AnswerMessage =>
  typeof message === 'object' && message !== null && 'answer' in message;

/** Carries out the calls that arrive on `channel`. */
export function serveCalls<T extends Callable<T>>(channel: Channel, target: T): void {
  const methods = target as unknown as Record<
    string,
    (...parameters: readonly unknown[]) => Promise<unknown>
  >;
  const answer = async ({ call, method, parameters }: CallMessage): Promise<void> => {
    let message: AnswerMessage;
    try {
      message = { answer: call, result: await methods[method]!(...parameters) };
    } catch (error) {
      message = { answer: call, error: toPlainError(error) };
    }
    channel.postMessage(message);
  };
  channel.on('message', (message: unknown) => {
    if (isCall(message)) void answer(message);
  });
}

/** The object at the other end. A call rejects with MirageError; `end` rejects those that will never be answered. */
export function callsTo<T extends Callable<T>>(channel: Channel): { remote: T; end(reason: Error): void } {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let last = 0;
  let ended: Error | undefined;
  channel.on('message', (message: unknown) => {
    if (!isAnswer(message)) return;
    const call = waiting.get(message.answer);
    waiting.delete(message.answer);
    if (message.error) call?.reject(fromPlainError(message.error));
    else call?.resolve(message.result);
  });
  const remote = new Proxy(
    {},
    {
      get: (_, method) =>
        // A promise machinery that looks at the object must not take it for a promise.
        typeof method !== 'string' || method === 'then'
          ? undefined
          : (...parameters: readonly unknown[]) =>
              new Promise((resolve, reject) => {
                if (ended) return reject(ended);
                waiting.set(++last, { resolve, reject });
                channel.postMessage({ call: last, method, parameters });
              }),
    },
  );
  return {
    remote: remote as T,
    end(reason) {
      ended = reason;
      for (const call of waiting.values()) call.reject(reason);
      waiting.clear();
    },
  };
}
