import type { Slot } from './inode-table.js';

/** Which nodes are hard links, and of which group. */
export class LinkGroups {
  readonly #slots = new Map<string, Slot>();
  readonly #groups = new Map<Slot, string>();

  slotOf(group: string): Slot | undefined {
    return this.#slots.get(group);
  }
  groupOf(slot: Slot): string | undefined {
    return this.#groups.get(slot);
  }

  join(slot: Slot, group: string): void {
    this.#slots.set(group, slot);
    this.#groups.set(slot, group);
  }

  leave(slot: Slot): void {
    const group = this.#groups.get(slot);
    if (group === undefined) return;
    this.#groups.delete(slot);
    if (this.#slots.get(group) === slot) this.#slots.delete(group);
  }

  /** What a row says of a node's group fits the node; a node alone may become one of a group that has none yet. */
  admits(slot: Slot, group: string | undefined): boolean {
    const own = this.#groups.get(slot);
    if (group === own) return true;
    if (own !== undefined || group === undefined || this.#slots.has(group)) return false;
    this.join(slot, group);
    return true;
  }
}
