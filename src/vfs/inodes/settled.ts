import type { AttributesReply, KernelNotifier, NodeId } from '../operations.js';

/** Takes `AttributesReply.settled` back where what was known of nodes changes by no request. */
export class Settled {
  readonly #notifier: KernelNotifier;
  #any = false;

  constructor(notifier: KernelNotifier) {
    this.#notifier = notifier;
  }

  settle(reply: AttributesReply): void {
    reply.settled = true;
    this.#any = true;
  }

  /** Something that is known changes; what follows from it for other nodes (link counts) is not looked for. */
  changed(): void {
    if (!this.#any) return;
    this.#any = false;
    this.#notifier.unsettle(0);
  }

  /** From now on the attributes of the node are those of an open file. */
  used(node: NodeId): void {
    if (this.#any) this.#notifier.unsettle(node);
  }
}
