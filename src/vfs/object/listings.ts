/** Listings of directories: asked of the store page by page, once for all who want them, into rows. */
import type { ListPage } from '../../backends/contract.js';
import type { NewEntryRecord } from '../../metadata/contract.js';
import type { ByteString } from '../operations.js';
import type { Slot } from './inode-table.js';
import { nameOf, nameOfFileBesideDirectory } from './names.js';
import type { Nodes } from './nodes.js';
import { recordOf } from './records.js';
import { Remembered } from './remembered.js';

export class Listings {
  readonly #nodes: Nodes;
  readonly #listings = new Map<string, Promise<void>>();
  /** Directories of more than a page: not listed for a look-up. */
  readonly #large = new Remembered<true>();

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** The directory is known to have more than a page. */
  isLarge(directory: string): boolean {
    return this.#large.get(directory) === true;
  }

  isComplete(directory: string): boolean {
    const { completeAt } = this.#nodes.metadata.listing(this.#nodes.location, directory);
    return completeAt !== undefined && this.#nodes.validFor(completeAt) > 0;
  }

  /** Asks the store for the whole directory, once for all who want it. */
  refresh(slot: Slot): Promise<void> {
    return this.#list(slot, true);
  }

  /** The first page only; complete if that is all. Nobody waits for it, so nobody hears of its failure. */
  preload(slot: Slot): void {
    this.#list(slot, false).catch((error: unknown) => {
      this.#nodes.context.log.debug('listing ahead failed', { reason: String(error) });
    });
  }

  async #list(slot: Slot, whole: boolean): Promise<void> {
    const directory = this.#nodes.directoryKey(slot);
    const running = this.#listings.get(directory);
    if (running !== undefined) {
      await running;
      // It was for a page only, or began too long ago.
      if (whole && !this.isComplete(directory)) await this.#list(slot, whole);
      return;
    }
    this.#nodes.table.pin(slot);
    const listing = this.#pages(slot, directory, whole).finally(() => {
      this.#listings.delete(directory);
      this.#nodes.table.unpin(slot);
    });
    this.#listings.set(directory, listing);
    await listing;
    const key = this.#nodes.directoryKeyIfAny(slot);
    // It was moved meanwhile: what came is of its old key.
    if (whole && key !== undefined && key !== directory) await this.#list(slot, whole);
  }

  async #pages(slot: Slot, directory: string, whole: boolean): Promise<void> {
    const { metadata, location, port, mount } = this.#nodes;
    const started = this.#nodes.now();
    const writer = metadata.startListing(location, directory, started);
    try {
      const moved = () => this.#nodes.directoryKeyIfAny(slot) !== directory;
      let page = await port.list(mount, directory, undefined);
      if (moved()) return writer.abandon();
      writer.page(this.#rows(page, directory, started));
      if (page.cursor !== undefined) this.#large.set(directory, true);
      else this.#large.delete(directory);
      while (page.cursor !== undefined) {
        if (!whole) {
          writer.abandon();
          return;
        }
        page = await port.list(mount, directory, page.cursor);
        if (moved()) return writer.abandon();
        writer.page(this.#rows(page, directory, started));
      }
      this.#keepOwn(slot);
      writer.complete();
      this.#nodes.recount(directory);
    } catch (error) {
      writer.abandon();
      throw error;
    }
  }

  /** What is made here and not in the store yet must outlive a listing that does not have it. */
  #keepOwn(slot: Slot): void {
    for (const inode of this.#nodes.allInUse()) {
      if (!inode.holdsTruth) continue;
      if (this.#nodes.table.names(inode.slot).some(({ parent }) => parent === slot))
        this.#nodes.publish(inode);
    }
  }

  #rows(page: ListPage, directory: string, started: number): NewEntryRecord[] {
    const { metadata, location, longNames } = this.#nodes;
    const rows = new Map<ByteString, NewEntryRecord>();
    for (const info of page.entries) {
      if (info.key === directory) continue;
      const component = info.key.slice(info.key.lastIndexOf('/') + 1);
      const name = nameOf(component);
      const previous = metadata.entry(location, directory, name);
      const record = recordOf(info, name, previous, started);
      longNames.remember(directory, name, component);
      const twin = rows.get(name) ?? (previous?.seenAt === started ? previous : undefined);
      if (twin === undefined || twin.kind === 'absent' || twin.kind === record.kind) {
        rows.set(name, record);
        continue;
      }
      // A file and a directory of one name: the directory keeps it.
      const [file, folder] = record.kind === 'file' ? [record, twin] : [twin, record];
      const other = nameOfFileBesideDirectory(component);
      longNames.remember(directory, other, component);
      rows.set(other, { ...file, name: other });
      rows.set(name, { ...folder, name });
    }
    return [...rows.values()];
  }
}
