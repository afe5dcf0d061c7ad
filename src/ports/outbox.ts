import type { MessagePort } from 'node:worker_threads';

/**
 * Posts messages to another thread: those of one turn of the event loop together, for waking the other thread is what costs. `prompt`: the first of
 * them goes at once, where a single one is the rule and somebody waits for it there.
 */
export class Outbox<Message> {
  readonly #channel: MessagePort;
  readonly #prompt: boolean;
  #messages: Message[] = [];
  #gathering = false;

  constructor(channel: MessagePort, { prompt = false } = {}) {
    this.#channel = channel;
    this.#prompt = prompt;
  }

  push(message: Message): void {
    if (this.#gathering) {
      this.#messages.push(message);
      return;
    }
    this.#gathering = true;
    queueMicrotask(() => this.#post());
    if (this.#prompt) this.#channel.postMessage([message]);
    else this.#messages.push(message);
  }

  #post(): void {
    const messages = this.#messages;
    this.#messages = [];
    this.#gathering = false;
    if (messages.length > 0) this.#channel.postMessage(messages);
  }
}
