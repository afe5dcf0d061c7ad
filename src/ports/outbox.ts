import type { MessagePort } from 'node:worker_threads';

/**
 * Posts messages to another thread. The first of a burst goes at once, for somebody waits for it there; what follows until the end of the
 * turn's work goes together: waking the other thread is what costs.
 */
export class Outbox<Message> {
  readonly #channel: MessagePort;
  #following: Message[] | undefined;

  constructor(channel: MessagePort) {
    this.#channel = channel;
  }

  push(message: Message): void {
    if (this.#following !== undefined) {
      this.#following.push(message);
      return;
    }
    this.#following = [];
    queueMicrotask(() => this.#post());
    this.#channel.postMessage([message]);
  }

  #post(): void {
    const messages = this.#following!;
    this.#following = undefined;
    if (messages.length > 0) this.#channel.postMessage(messages);
  }
}
